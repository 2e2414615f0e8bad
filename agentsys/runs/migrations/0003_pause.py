"""ready -> queued: what a pause holds back."""

from django.db import migrations

STEP_GUARD = """
CREATE OR REPLACE FUNCTION runs_step_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
        WHEN 'blocked'  THEN NEW.status IN ('queued', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'queued'   THEN NEW.status IN ('ready', 'running', 'skipped', 'cancelled')
        WHEN 'ready'    THEN NEW.status IN ('queued', 'running', 'skipped', 'cancelled')
        WHEN 'running'  THEN NEW.status IN
            ('succeeded', 'failed', 'sleeping', 'waiting', 'cancelled', 'queued', 'ready')
        WHEN 'sleeping' THEN NEW.status IN ('queued', 'ready', 'cancelled', 'failed')
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
    dependencies = [("runs", "0002_guards")]
    operations = [migrations.RunSQL([STEP_GUARD], migrations.RunSQL.noop)]
