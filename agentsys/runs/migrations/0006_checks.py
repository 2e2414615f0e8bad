"""Steps count how often their check gave no answer."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0005_children")]
    operations = [
        migrations.AddField(
            model_name="step",
            name="checks",
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
    ]
