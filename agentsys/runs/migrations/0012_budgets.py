"""Budgets hold: spent + reserved stay within the limit whatever the code does; runs know when their time is up."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models
from django.db.models.expressions import RawSQL

# Runs leave with all their rows by one DELETE of theirs; so do the budgets of a run, and what they hold.
TIES = """
ALTER TABLE runs_budget ADD CONSTRAINT runs_budget_of_run FOREIGN KEY (workspace_id, run_id)
    REFERENCES runs_run (workspace_id, id) ON DELETE CASCADE;
ALTER TABLE runs_reservation ADD CONSTRAINT runs_reservation_of_budget FOREIGN KEY (budget_id)
    REFERENCES runs_budget (id) ON DELETE CASCADE;
ALTER TABLE runs_budget SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
"""
# The limits that there have been: steps, of which runs never have more than they may.
EXISTING = """
INSERT INTO runs_budget (workspace_id, run_id, kind, lim, spent, reserved)
SELECT r.workspace_id, r.id, 'steps', greatest(n.steps, (r.limits ->> 'steps')::bigint), n.steps, 0
  FROM runs_run r CROSS JOIN LATERAL (
       SELECT count(*) AS steps FROM runs_step s
        WHERE s.run_id = r.id AND s.kind <> 'plan'
          AND s.status NOT IN ('skipped', 'cancelled') AND s.reason <> 'recorded') n
 WHERE r.limits ? 'steps';
"""


def rule(name: str, sql: str) -> models.CheckConstraint:
    condition = RawSQL(sql, [], output_field=models.BooleanField())  # noqa: S611 - our words
    return models.CheckConstraint(condition=condition, name=name)


BUDGET_RULES = {
    "budget_never_negative": "spent >= 0 AND reserved >= 0 AND folded >= 0 AND over >= 0",
    "budget_within_limit": "spent + reserved <= lim",
    "budget_of_one": "(run_id IS NULL OR agent_id IS NULL) AND (kind <> 'steps' OR run_id IS NOT NULL)",
    "budget_kind_known": "kind IN ('steps', 'tokens', 'cost_micros')",
}
RESERVATION = migrations.CreateModel(
    name="Reservation",
    fields=[
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        ("run_id", models.UUIDField()),
        ("step_id", models.BigIntegerField()),
        ("claim_token", models.UUIDField()),
        ("amount", models.BigIntegerField()),
        ("settled", models.BigIntegerField(default=0)),
        ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
        ("settled_at", models.DateTimeField(null=True)),
        (
            "budget",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="reservations",
                to="runs.budget",
            ),
        ),
    ],
    options={
        "constraints": [
            models.UniqueConstraint(fields=("claim_token", "budget"), name="reservation_once"),
            rule("reservation_never_negative", "amount >= 0 AND settled >= 0"),
            rule("reservation_settled_holds_nothing", "settled_at IS NULL OR amount = 0"),
        ],
        "indexes": [models.Index(fields=["budget", "settled_at"], name="reservation_of_budget")],
    },
)


class Migration(migrations.Migration):
    dependencies = [("runs", "0011_retention")]
    operations = [
        migrations.DeleteModel(name="Reservation"),  # nothing has ever reserved
        migrations.RemoveConstraint(model_name="budget", name="budget_never_negative"),
        migrations.AlterField(
            model_name="budget",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="budgets",
                to="runs.run",
            ),
        ),
        migrations.AlterField(
            model_name="budget",
            name="workspace",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="accounts.workspace",
            ),
        ),
        migrations.AlterField(
            model_name="budget",
            name="kind",
            field=models.CharField(
                choices=[("steps", "Steps"), ("tokens", "Tokens"), ("cost_micros", "Cost")], max_length=16
            ),
        ),
        *(
            migrations.AddField(model_name="budget", name=name, field=models.BigIntegerField(default=0, db_default=0))
            for name in ("folded", "over")
        ),
        migrations.AddField(
            model_name="budget", name="warned", field=models.BooleanField(default=False, db_default=False)
        ),
        *(
            migrations.AddConstraint(model_name="budget", constraint=rule(name, sql))
            for name, sql in BUDGET_RULES.items()
        ),
        RESERVATION,
        migrations.AddField(model_name="step", name="kept", field=models.JSONField(null=True)),
        migrations.AddField(model_name="run", name="time_up_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="run", name="held_at", field=models.DateTimeField(null=True)),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(
                    ("finished_at__isnull", True), ("held_at__isnull", True), ("time_up_at__isnull", False)
                ),
                fields=["time_up_at"],
                name="run_timed",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", True), ("held_at__isnull", False)),
                fields=["held_at"],
                name="run_held",
            ),
        ),
        *(migrations.RunSQL([sql], migrations.RunSQL.noop) for sql in (TIES, EXISTING)),
    ]
