"""Which files name a content that they had before: an index beside the work that goes on."""

from django.db import migrations, models
from django.db.models import Q

#: What an attempt that was broken off has left is of no use.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS runfile_before"
INDEX = "CREATE INDEX CONCURRENTLY runfile_before ON runs_runfile (before_id) WHERE before_id IS NOT NULL"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0022_over_cap")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([DROP]), migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    "runfile",
                    models.Index(condition=Q(before__isnull=False), fields=["before"], name="runfile_before"),
                )
            ],
        ),
    ]
