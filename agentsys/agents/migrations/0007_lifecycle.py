"""Versions that are drafts, published or retired: what may change, and what an agent may name for its new runs."""

from django.db import migrations, models

GUARDS = """
CREATE OR REPLACE FUNCTION agents_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'draft' AND NEW.status IN ('draft', 'published')
       AND (NEW.id, NEW.workspace_id, NEW.agent_id, NEW.number) = (OLD.id, OLD.workspace_id, OLD.agent_id, OLD.number)
    THEN
        RETURN NEW;
    END IF;
    IF OLD.status = 'published' AND NEW.status = 'retired' AND to_jsonb(NEW) - 'status' = to_jsonb(OLD) - 'status'
       AND NOT EXISTS (SELECT FROM agents_agent WHERE current_version_id = OLD.id) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'agent version % is immutable; make a new one', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE FUNCTION agents_current_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.current_version_id IS NULL
       OR EXISTS (SELECT FROM agents_agentversion
                   WHERE id = NEW.current_version_id AND agent_id = NEW.id AND status = 'published' FOR SHARE) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'agent % can only use a published version of its own', NEW.slug
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE TRIGGER agent_current_published BEFORE INSERT OR UPDATE OF current_version_id ON agents_agent
    FOR EACH ROW EXECUTE FUNCTION agents_current_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0006_fallbacks")]
    operations = [
        migrations.AddField(
            "agentversion",
            "status",
            models.CharField(
                max_length=9,
                choices=[("draft", "Draft"), ("published", "Published"), ("retired", "Retired")],
                default="published",
                db_default="published",
            ),
        ),
        migrations.RunSQL([GUARDS], migrations.RunSQL.noop),
    ]
