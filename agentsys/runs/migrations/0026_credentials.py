"""Which steps wait for a credential, without all others that wait."""

from django.db import migrations, models
from django.db.models import Q

#: What an attempt that was broken off has left is of no use.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS step_uncredited"
INDEX = "CREATE INDEX CONCURRENTLY step_uncredited ON runs_step (id) WHERE reason = 'credential' AND status = 'waiting'"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0025_model_calls"), ("accounts", "0003_credential")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([DROP]), migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    model_name="step",
                    index=models.Index(
                        condition=Q(status="waiting", reason="credential"), fields=["id"], name="step_uncredited"
                    ),
                )
            ],
        ),
    ]
