"""Which runs have steps that wait for a place among their parallel ones: an index beside the work that goes on."""

from django.db import migrations, models
from django.db.models import Q

#: What an attempt that was broken off has left is of no use.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS step_capped"
INDEX = "CREATE INDEX CONCURRENTLY step_capped ON runs_step (run_id) WHERE held = 'parallel' AND status = 'queued'"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0014_admission")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([DROP]), migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    model_name="step",
                    index=models.Index(
                        condition=Q(status="queued", held="parallel"), fields=["run"], name="step_capped"
                    ),
                )
            ],
        )
    ]
