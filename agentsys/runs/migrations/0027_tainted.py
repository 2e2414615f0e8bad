"""Which arguments of a call come from where they should not."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0026_credentials")]
    operations = [
        migrations.AddField(model_name="approval", name="tainted", field=models.JSONField(db_default={}, default=dict)),
    ]
