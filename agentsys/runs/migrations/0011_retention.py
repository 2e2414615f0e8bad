"""History leaves: each workspace's own times, what is left of what has gone, and a final run may lose its key."""

import django.db.models.deletion
from django.db import migrations, models

# A function's new body takes no lock on the tables whose triggers call it.
FINAL = """
CREATE OR REPLACE FUNCTION runs_final_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'runs_run' AND to_jsonb(OLD) ->> 'idempotency_key' IS NOT NULL
       AND to_jsonb(NEW) ->> 'idempotency_key' IS NULL
       AND to_jsonb(NEW) - 'idempotency_key' = to_jsonb(OLD) - 'idempotency_key' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% % is %; final rows never change', TG_TABLE_NAME, OLD.id, OLD.status
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$;
"""
ID_AT = """
CREATE FUNCTION runs_id_at(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(0, extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("runs", "0010_quota"),
    ]

    operations = [
        migrations.CreateModel(
            name="Pruned",
            fields=[
                ("run_id", models.UUIDField(primary_key=True, serialize=False)),
                ("workspace_id", models.UUIDField()),
                ("finished_at", models.DateTimeField()),
                ("history_at", models.DateTimeField(null=True)),
                ("gone_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "runs_pruned",
            },
        ),
        migrations.CreateModel(
            name="Retention",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("runs_days", models.FloatField(null=True)),
                ("history_days", models.FloatField(null=True)),
                ("keys_days", models.FloatField(null=True)),
                ("paused", models.BooleanField(db_default=False, default=False)),
                (
                    "workspace",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.workspace",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("workspace",), name="retention_once", nulls_distinct=False),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("runs_days__isnull", True), ("runs_days__gte", 0), _connector="OR"),
                            models.Q(("history_days__isnull", True), ("history_days__gte", 0), _connector="OR"),
                            models.Q(("keys_days__isnull", True), ("keys_days__gte", 0), _connector="OR"),
                        ),
                        name="retention_days_not_negative",
                    ),
                ],
            },
        ),
        migrations.RunSQL([FINAL], migrations.RunSQL.noop),
        migrations.RunSQL([ID_AT], ["DROP FUNCTION runs_id_at(timestamptz)"]),
    ]
