"""What a file was before the step that wrote it last: a step that is done again sees the files as it saw them first."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
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
    ]
