"""Which steps wait for a child run, without all others that wait; and a column that nobody reads is gone."""

from django.db import migrations, models
from django.db.models import Q

INDEX = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS step_joinable ON runs_step (id)"
    " WHERE reason = 'child' AND status = 'waiting'"
)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0016_calls")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([INDEX])],
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
