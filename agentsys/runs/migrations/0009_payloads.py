"""Large values kept once by content: who uses what, when it was last put, and the function that reads a reference."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

TIE = (
    "ALTER TABLE runs_payloaduse ADD CONSTRAINT runs_payloaduse_of_run FOREIGN KEY (workspace_id, run_id)"
    " REFERENCES runs_run (workspace_id, id) ON DELETE CASCADE"
)
# Two functions: the first is inlined into the statements that call it, so that a value which is no reference costs
# no call.  Content is found within the workspace only.
READ = """
CREATE FUNCTION runs_payload_value(workspace uuid, reference jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT convert_from(p.content, 'UTF8')::jsonb FROM runs_payload p
     WHERE p.workspace_id = workspace AND p.sha256 = reference ->> '$payload'
$$;
CREATE FUNCTION runs_value(workspace uuid, value jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value ? '$payload' AND jsonb_typeof(value) = 'object'
                THEN runs_payload_value(workspace, value) ELSE value END
$$;
"""
UNREAD = "DROP FUNCTION runs_value(uuid, jsonb); DROP FUNCTION runs_payload_value(uuid, jsonb);"


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_replanning")]
    operations = [
        migrations.AddField(
            model_name="payload",
            name="touched_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.CreateModel(
            name="PayloadUse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("workspace_id", models.UUIDField()),
                (
                    "payload",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="runs.payload"),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="runs.run",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("run", "payload"), name="payloaduse_once")],
            },
        ),
        migrations.RunSQL([TIE], migrations.RunSQL.noop),
        migrations.RunSQL([READ], [UNREAD]),
    ]
