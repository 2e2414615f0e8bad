"""Planning anew: what has not started waits for the new plan (-> blocked), then gives its key away."""

from django.db import migrations, models

STEP_GUARD = """
CREATE OR REPLACE FUNCTION runs_step_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
        WHEN 'blocked'  THEN NEW.status IN ('queued', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'queued'   THEN NEW.status IN ('blocked', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'ready'    THEN NEW.status IN ('blocked', 'queued', 'running', 'skipped', 'cancelled')
        WHEN 'running'  THEN NEW.status IN
            ('succeeded', 'failed', 'sleeping', 'waiting', 'cancelled', 'queued', 'ready')
        WHEN 'sleeping' THEN NEW.status IN ('blocked', 'queued', 'ready', 'cancelled', 'failed')
        WHEN 'waiting'  THEN NEW.status IN ('queued', 'ready', 'succeeded', 'failed', 'cancelled')
        ELSE false END)
    THEN
        RAISE EXCEPTION 'step %: % -> % is not a move of this machine', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'step_moves';
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_messages")]
    operations = [
        migrations.RunSQL([STEP_GUARD], migrations.RunSQL.noop),
        # A longer varchar is a change of the catalogue only.
        migrations.AlterField("step", "key", models.CharField(max_length=72)),
        migrations.AddField("runmessage", "replan", models.BooleanField(db_default=False, default=False)),
    ]
