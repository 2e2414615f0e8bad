"""What the admin calls lanes and how long history is kept; nothing in the database."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("runs", "0019_before")]
    operations = [
        migrations.AlterModelOptions("laneslot", {"verbose_name": "lane"}),
        migrations.AlterModelOptions(
            "retention", {"verbose_name": "history kept", "verbose_name_plural": "history kept"}
        ),
    ]
