"""What a file was before the step that wrote it last: a step that is done again sees the files as it saw them first."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

INDEX = "CREATE INDEX CONCURRENTLY IF NOT EXISTS runfile_before ON runs_runfile (before_id) WHERE before_id IS NOT NULL"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0018_acting")]
    operations = [
        migrations.AddField(
            "runfile",
            "before",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="runs.payload",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    "runfile",
                    models.Index(condition=Q(before__isnull=False), fields=["before"], name="runfile_before"),
                )
            ],
        ),
    ]
