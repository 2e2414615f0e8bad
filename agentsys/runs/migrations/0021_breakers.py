"""Models that have failed lately."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("runs", "0020_names")]
    operations = [
        migrations.CreateModel(
            name="Breaker",
            fields=[
                ("model", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("failures", models.IntegerField()),
                ("open_until", models.DateTimeField(null=True)),
                ("probe_until", models.DateTimeField(null=True)),
                ("error", models.CharField(max_length=500)),
                ("failed_at", models.DateTimeField(db_default=Now())),
            ],
        ),
    ]
