from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0007_lifecycle")]

    operations = [
        migrations.AddField(
            model_name="agentversion",
            name="prompts",
            field=models.PositiveSmallIntegerField(
                db_default=1, default=1, editable=False, help_text="The edition of agentsys's own prompts."
            ),
        ),
    ]
