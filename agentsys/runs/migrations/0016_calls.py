"""Which of its attempt's model calls a reservation is for: so that one whose answer was lost is known again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0015_parallel")]
    operations = [
        migrations.AddField("reservation", "call", models.IntegerField(default=0, db_default=0)),
    ]
