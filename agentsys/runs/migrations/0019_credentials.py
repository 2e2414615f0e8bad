"""Which steps wait for a credential, without all others that wait."""

from django.db import migrations, models
from django.db.models import Q

INDEX = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS step_uncredited ON runs_step (id)"
    " WHERE reason = 'credential' AND status = 'waiting'"
)


class Migration(migrations.Migration):
    atomic = False
<<<<<<<< HEAD:agentsys/runs/migrations/0026_credentials.py
    dependencies = [("runs", "0025_model_calls"), ("accounts", "0003_credential")]
========
    dependencies = [("runs", "0018_acting"), ("accounts", "0002_credential")]
>>>>>>>> 9fa6be2 (Credentials have their tests, their page in the admin and their lines in README and CHANGELOG):agentsys/runs/migrations/0019_credentials.py
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([INDEX])],
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
