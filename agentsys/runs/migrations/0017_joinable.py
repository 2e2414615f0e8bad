"""Which steps wait for a child run, without all others that wait; and a column that nobody reads is gone."""

from django.db import migrations, models
from django.db.models import Q

#: What an attempt that was broken off has left is of no use.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS step_joinable"
INDEX = "CREATE INDEX CONCURRENTLY step_joinable ON runs_step (id) WHERE reason = 'child' AND status = 'waiting'"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0016_calls")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([DROP]), migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    model_name="step",
                    index=models.Index(
                        condition=Q(status="waiting", reason="child"), fields=["id"], name="step_joinable"
                    ),
                )
            ],
        ),
        migrations.RemoveField("step", "slot_held"),
    ]
