"""What the ORM cannot state: moves held by triggers, rows tied to their workspace, hot tables kept small."""

from django.db import migrations

# A final row never changes, and a status moves only along the pairs of states.py.
STEP_MOVES = """
CREATE FUNCTION runs_step_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
        WHEN 'blocked'  THEN NEW.status IN ('queued', 'ready', 'running', 'skipped', 'cancelled')
        WHEN 'queued'   THEN NEW.status IN ('ready', 'running', 'skipped', 'cancelled')
        WHEN 'ready'    THEN NEW.status IN ('running', 'skipped', 'cancelled')
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
CREATE TRIGGER step_moves BEFORE UPDATE OF status ON runs_step FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION runs_step_guard();
CREATE FUNCTION runs_final_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% % is %; final rows never change', TG_TABLE_NAME, OLD.id, OLD.status
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE TRIGGER step_final BEFORE UPDATE ON runs_step FOR EACH ROW
    WHEN (OLD.status IN ('succeeded', 'failed', 'skipped', 'cancelled')) EXECUTE FUNCTION runs_final_guard();
CREATE FUNCTION runs_run_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (CASE OLD.status
        WHEN 'queued'     THEN NEW.status IN ('running', 'paused', 'cancelling', 'cancelled', 'failed')
        WHEN 'running'    THEN NEW.status IN ('waiting', 'paused', 'succeeded', 'cancelling', 'cancelled', 'failed')
        WHEN 'waiting'    THEN NEW.status IN ('running', 'paused', 'succeeded', 'cancelling', 'cancelled', 'failed')
        WHEN 'paused'     THEN NEW.status IN
            ('queued', 'running', 'waiting', 'succeeded', 'cancelling', 'cancelled', 'failed')
        WHEN 'cancelling' THEN NEW.status IN ('cancelled', 'failed')
        ELSE false END)
    THEN
        RAISE EXCEPTION 'run %: % -> % is not a move of this machine', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'run_moves';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER run_moves BEFORE UPDATE OF status ON runs_run FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION runs_run_guard();
CREATE TRIGGER run_final BEFORE UPDATE ON runs_run FOR EACH ROW
    WHEN (OLD.status IN ('succeeded', 'failed', 'cancelled')) EXECUTE FUNCTION runs_final_guard();
CREATE TRIGGER event_final BEFORE UPDATE ON runs_event FOR EACH ROW EXECUTE FUNCTION runs_append_guard();
CREATE TRIGGER attempt_final BEFORE UPDATE ON runs_attempt FOR EACH ROW EXECUTE FUNCTION runs_append_guard();
"""
APPEND = """
CREATE FUNCTION runs_append_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
"""
# One check a row ties it to its run *and* its workspace.  Deleting a run takes its rows along.
TIES = "".join(
    f"ALTER TABLE {table} ADD CONSTRAINT {table}_of_run FOREIGN KEY (workspace_id, run_id)"
    " REFERENCES runs_run (workspace_id, id) ON DELETE CASCADE;\n"
    for table in (
        "runs_step",
        "runs_stepedge",
        "runs_attempt",
        "runs_event",
        "runs_runfile",
        "runs_approval",
    )
) + (
    "ALTER TABLE runs_run ADD CONSTRAINT runs_run_of_version FOREIGN KEY (workspace_id, agent_version_id)"
    " REFERENCES agents_agentversion (workspace_id, id);\n"
    "ALTER TABLE runs_run ADD CONSTRAINT runs_run_of_parent FOREIGN KEY (workspace_id, parent_run_id)"
    " REFERENCES runs_run (workspace_id, id);\n"
)
# Rows change often and live shortly: leave room for HOT updates, vacuum early.
HOT = "".join(
    f"ALTER TABLE {table} SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);\n"
    for table in ("runs_run", "runs_step")
)


class Migration(migrations.Migration):
    dependencies = [("runs", "0001_initial")]
    operations = [migrations.RunSQL([sql], migrations.RunSQL.noop) for sql in (APPEND, STEP_MOVES, TIES, HOT)]
