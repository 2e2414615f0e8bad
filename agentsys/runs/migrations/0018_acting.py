"""A step that acts waits for the calls it has made (running -> blocked), and they name it.

The keys that a step depends on have no length of their own any more: without one, nothing is written anew.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

STEP_GUARD = """
CREATE OR REPLACE FUNCTION runs_step_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
        WHEN 'blocked'  THEN NEW.status IN ('queued', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'queued'   THEN NEW.status IN ('blocked', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'ready'    THEN NEW.status IN ('blocked', 'queued', 'running', 'skipped', 'cancelled')
        WHEN 'running'  THEN NEW.status IN
            ('succeeded', 'failed', 'sleeping', 'waiting', 'cancelled', 'queued', 'ready', 'blocked')
        WHEN 'sleeping' THEN NEW.status IN ('blocked', 'queued', 'ready', 'cancelled', 'failed')
        WHEN 'waiting'  THEN NEW.status IN ('queued', 'ready', 'succeeded', 'failed', 'cancelled', 'blocked')
        ELSE false END)
    THEN
        RAISE EXCEPTION 'step %: % -> % is not a move of this machine', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'step_moves';
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0017_joinable")]
    operations = [
        migrations.RunSQL([STEP_GUARD], migrations.RunSQL.noop),
        migrations.AddField("step", "caller", models.CharField(blank=True, db_default="", default="", max_length=72)),
        migrations.AlterField("step", "depends_on", ArrayField(models.CharField(), default=list)),
    ]
