"""A version never changes, and belongs to its agent's workspace."""

from django.db import migrations

GUARDS = """
ALTER TABLE agents_agentversion ADD CONSTRAINT agentversion_of_agent
    FOREIGN KEY (workspace_id, agent_id) REFERENCES agents_agent (workspace_id, id);
CREATE FUNCTION agents_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'agent version % is immutable; make a new one', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE TRIGGER agentversion_immutable BEFORE UPDATE ON agents_agentversion
    FOR EACH ROW EXECUTE FUNCTION agents_version_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]
    operations = [migrations.RunSQL([GUARDS], migrations.RunSQL.noop)]
