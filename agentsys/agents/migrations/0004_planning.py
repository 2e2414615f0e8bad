"""How the runs of a version may plan anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_approvals")]
    operations = [
        migrations.AddField(
            model_name="agentversion",
            name="planning",
            field=models.JSONField(
                blank=True,
                db_default={},
                default=dict,
                help_text="How runs plan anew: replan_on_failure, max_plans, max_fan_out, max_repeats.",
            ),
        ),
    ]
