"""Whether more of a run is under way than its cap, since that was lowered."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0021_breakers")]
    operations = [
        migrations.AddField("run", "over_cap", models.BooleanField(db_default=False, default=False)),
    ]
