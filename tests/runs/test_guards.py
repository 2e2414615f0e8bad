"""What must never be, the database refuses: rows of two workspaces mixed, states without what they need."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs.store import claims
from tests.support.priced import MODEL
from tests.support.rows import photograph, sql, unguarded

ECHO = {"key": "a", "tool": "test.echo"}


def rule_against(statement, *params):
    """The name of the constraint that refuses a statement; nothing changes."""
    before = photograph()
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        sql(statement, *params)
    assert photograph() == before
    return caught.value.__cause__.diag.constraint_name


@pytest.fixture
def stranger(db):
    return Workspace.objects.create(slug="theirs", name="Theirs")


@pytest.mark.parametrize(
    "table", ["runs_step", "runs_stepedge", "runs_attempt", "runs_event", "runs_runfile", "runs_modelcall"]
)
def test_a_row_of_a_run_cannot_belong_to_another_workspace(submit, worker, priced, stranger, table):
    say = {"key": "say", "kind": "answer", "objective": "Say something."}
    run = submit([ECHO, ECHO | {"key": "b", "depends_on": ["a"]}, say], files={"f": b"x"}, model=MODEL)
    worker.drain("compute"), worker.drain("model")
    with unguarded():
        rule = rule_against(f"UPDATE {table} SET workspace_id = %s WHERE run_id = %s", stranger.pk, run.pk)
    assert rule == f"{table}_of_run"


def test_an_event_cannot_be_written_into_another_workspaces_run(submit, stranger):
    run = submit([ECHO])

    rule = rule_against(
        "INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)"
        " VALUES (%s, %s, 2, 'x', '', now(), '{}')",
        stranger.pk, run.pk,
    )  # fmt: skip

    assert rule == "runs_event_of_run"


def test_a_run_cannot_use_another_workspaces_agent_or_parent(submit, stranger):
    run = submit([ECHO])
    theirs = Agent.objects.create(workspace=stranger, slug="spy", name="Spy")
    version = AgentVersion.objects.create(workspace=stranger, agent=theirs, number=1)

    assert (
        rule_against("UPDATE runs_run SET agent_version_id = %s WHERE id = %s", version.pk, run.pk)
        == "runs_run_of_version"
    )
    assert rule_against("UPDATE runs_run SET workspace_id = %s WHERE id = %s", stranger.pk, run.pk)
    assert rule_against("UPDATE runs_run SET parent_run_id = %s WHERE id = %s", uuid.uuid4(), run.pk)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("lease_expires_at = now()", "step_leased_iff_running"),
        ("status = 'running', lease_expires_at = NULL", "step_leased_iff_running"),
        ("status = 'running', lease_expires_at = now(), claim_token = NULL", "step_running_has_token"),
        ("status = 'running', lease_expires_at = now(), claim_token = gen_random_uuid(), failures = 9",
         "step_failures_bounded"),
        ("crashes = 4", "step_crashes_bounded"),
        ("deps_left = -1", "step_blocked_has_parents"),
        ("tool = ''", "step_tool_named_iff_tool_kind"),
        ("kind = 'wait'", "step_tool_named_iff_tool_kind"),
        ("attempt = -1", "step_failures_bounded"),
    ],
)  # fmt: skip
def test_an_impossible_step_is_refused(submit, change, rule):
    run = submit([ECHO])

    assert rule_against(f"UPDATE runs_step SET {change} WHERE run_id = %s", run.pk) == rule


def test_a_sleeping_step_has_a_time_and_a_blocked_one_a_parent(submit):
    run = submit([ECHO])
    claims.claim("compute", owner="w")

    sleeping = "UPDATE runs_step SET status = 'sleeping', lease_expires_at = NULL WHERE run_id = %s"
    assert rule_against(sleeping, run.pk) == "step_sleeping_has_time"
    blocked = "UPDATE runs_step SET deps_left = 0 WHERE run_id = %s AND status = 'blocked'"
    other = submit([ECHO, ECHO | {"key": "b", "depends_on": ["a"]}])
    assert rule_against(blocked, other.pk) == "step_blocked_has_parents"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("active_steps = 2", "run_counters_agree"),
        ("active_steps = -1", "run_counters_agree"),
        ("status = 'cancelled'", "run_final_has_no_open_step"),
        ("status = 'cancelled', open_steps = 0, active_steps = 0", "run_final_has_no_open_step"),
    ],
)
def test_an_impossible_run_is_refused(submit, change, rule):
    run = submit([ECHO])

    assert rule_against(f"UPDATE runs_run SET {change} WHERE id = %s", run.pk) == rule


def test_keys_and_numbers_are_taken_once(submit):
    run = submit([ECHO, ECHO | {"key": "b", "depends_on": ["a"]}], key="k")
    copies = {
        "INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)"
        " SELECT workspace_id, run_id, seq, type, step, at, data FROM runs_event": "event_seq_unique",
        "INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)"
        " SELECT workspace_id, run_id, parent_id, child_id FROM runs_stepedge": "stepedge_once",
        "UPDATE runs_step SET key = 'a'": "step_key_unique",
    }
    for statement, rule in copies.items():
        assert rule_against(statement) == rule
    other = submit([ECHO])
    assert rule_against("UPDATE runs_run SET idempotency_key = 'k' WHERE id = %s", other.pk) == "run_idempotency_key"
    assert run.idempotency_key == "k"


def test_deleting_a_run_takes_all_its_rows_along(submit, worker):
    run = submit([ECHO, ECHO | {"key": "b", "depends_on": ["a"]}], files={"f": b"x"})
    worker.finish(run)
    kept = worker.finish(submit([ECHO]))

    run.delete()

    left = photograph()
    assert {row["run_id"] for table, rows in left.items() if table != "runs_run" for row in rows} == {str(kept.pk)}
