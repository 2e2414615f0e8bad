"""Slots are counted: of what is ready and running now, from here on by whoever moves a step; what was paused waits."""

from django.conf import settings
from django.db import migrations, models
from django.db.models import F, Q

COUNT = """
INSERT INTO runs_laneslot (workspace_id, lane, lim, used, over, weight, next_key, hungry, custom)
SELECT workspace_id, lane, %s, count(*), greatest(0, count(*) - %s), 1, 0, false, false
  FROM runs_step WHERE status IN ('ready', 'running') GROUP BY workspace_id, lane
ON CONFLICT (workspace_id, lane) DO UPDATE
   SET lim = excluded.lim, used = excluded.used, over = excluded.over
"""
# Until now a step was queued only because its run was paused or out of time.
HOLD = "UPDATE runs_step SET held = 'paused' WHERE status = 'queued'"


def count(_apps, schema_editor):
    schema_editor.execute(HOLD)
    schema_editor.execute(COUNT, [settings.LANE_SLOTS, settings.LANE_SLOTS])


class Migration(migrations.Migration):
    dependencies = [("runs", "0012_budgets")]
    operations = [
        migrations.AddField(
            model_name="step", name="held", field=models.CharField(blank=True, db_default="", default="", max_length=8)
        ),
        migrations.RemoveConstraint(model_name="laneslot", name="laneslot_within_limit"),
        migrations.AlterField(model_name="laneslot", name="lim", field=models.IntegerField()),
        migrations.AddField(model_name="laneslot", name="over", field=models.IntegerField(db_default=0, default=0)),
        migrations.AddField(
            model_name="laneslot", name="hungry", field=models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddField(
            model_name="laneslot", name="custom", field=models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddConstraint(
            model_name="laneslot",
            constraint=models.CheckConstraint(
                condition=Q(used__gte=0, used__lte=F("lim") + F("over")), name="laneslot_in_limit"
            ),
        ),
        migrations.AddConstraint(
            model_name="laneslot",
            constraint=models.CheckConstraint(condition=Q(lim__gte=0, over__gte=0, weight__gt=0), name="laneslot_sane"),
        ),
        # Changed several times a second, and small: room for many versions on each page.
        migrations.RunSQL(["ALTER TABLE runs_laneslot SET (fillfactor = 20)"], migrations.RunSQL.noop),
        migrations.RunPython(count, migrations.RunPython.noop),
    ]
