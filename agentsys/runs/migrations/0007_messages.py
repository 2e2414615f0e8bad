"""Steering messages, tied to their run and its workspace as all parts of a run are."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

TIE = (
    "ALTER TABLE runs_message ADD CONSTRAINT runs_message_of_run FOREIGN KEY (workspace_id, run_id)"
    " REFERENCES runs_run (workspace_id, id) ON DELETE CASCADE"
)


class Migration(migrations.Migration):
    dependencies = [("runs", "0006_checks")]
    operations = [
        migrations.CreateModel(
            name="RunMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("workspace_id", models.UUIDField()),
                ("seq", models.SmallIntegerField()),
                ("text", models.TextField()),
                ("by", models.CharField(blank=True, max_length=150)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("read_at", models.DateTimeField(null=True)),
                ("read_by", models.CharField(blank=True, max_length=64)),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="runs.run",
                    ),
                ),
            ],
            options={
                "db_table": "runs_message",
                "ordering": ["seq"],
                "constraints": [
                    models.UniqueConstraint(fields=("run", "seq"), name="runmessage_seq_unique"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("read_at__isnull", True), ("read_by", "")),
                            models.Q(("read_at__isnull", False), models.Q(("read_by", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="runmessage_read_by_a_step",
                    ),
                ],
            },
        ),
        migrations.RunSQL([TIE], migrations.RunSQL.noop),
    ]
