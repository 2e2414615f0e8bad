"""The tables' triggers and states.py hold the same moves, whoever writes."""

from itertools import product

import pytest
from django.db import IntegrityError, transaction

from agentsys.runs.models import Attempt, Event, Run, Step
from agentsys.runs.states import (
    RUN_FINAL,
    RUN_MOVES,
    STEP_ACTIVE,
    STEP_FINAL,
    STEP_MOVES,
    RunStatus,
    StepStatus,
)
from tests.support.rows import photograph, sql, unguarded

# What a row of a status must have to pass the CHECKs, so that only the trigger can refuse a move.
DRESS = (
    "status = %s, deps_left = CASE WHEN %s = 'blocked' THEN 1 ELSE 0 END,"
    " claim_token = CASE WHEN %s = 'running' THEN gen_random_uuid() END,"
    " lease_expires_at = CASE WHEN %s = 'running' THEN now() + interval '1 hour' END,"
    " available_at = CASE WHEN %s = 'sleeping' THEN now() + interval '1 hour' END"
)
ECHO = {"key": "a", "tool": "test.echo"}


def put_step(step_id, status):
    """Give a step a status that no move led to."""
    with unguarded():
        sql(f"UPDATE runs_step SET {DRESS} WHERE id = %s", *[status] * 5, step_id)


def put_run(run_id, status):
    with unguarded():
        sql(
            "UPDATE runs_run SET status = %s, open_steps = 0, active_steps = 0,"
            " finished_at = CASE WHEN %s THEN now() END WHERE id = %s",
            status, status in RUN_FINAL, run_id,
        )  # fmt: skip


def refused(statement, *params):
    """The name of the rule that the database refuses a statement with; None when it takes it."""
    try:
        with transaction.atomic():
            sql(statement, *params)
    except IntegrityError as error:
        return error.__cause__.diag.constraint_name
    return None


@pytest.fixture
def undone():
    """Whatever a test writes is gone before the invariants are checked."""
    with transaction.atomic():
        sql("SET CONSTRAINTS ALL IMMEDIATE")  # or a trigger cannot be switched off after a write
        yield
        transaction.set_rollback(True)


def test_a_step_moves_only_along_the_pairs_of_the_diagram(submit, undone):
    step = submit([ECHO]).steps.get()
    allowed = {}
    for old, new in product(StepStatus.values, StepStatus.values):
        put_step(step.pk, old)
        rule = refused(f"UPDATE runs_step SET {DRESS} WHERE id = %s", *[new] * 5, step.pk)
        if old == new:
            assert rule == ("step_final" if old in STEP_FINAL else None)
        elif rule is None:
            allowed.setdefault(old, set()).add(new)
        else:
            assert rule == ("step_final" if old in STEP_FINAL else "step_moves"), (old, new)

    assert allowed == STEP_MOVES


def test_a_run_moves_only_along_the_pairs_of_the_diagram(submit, undone):
    run = submit([ECHO])
    allowed = {}
    for old, new in product(RunStatus.values, RunStatus.values):
        put_run(run.pk, old)
        rule = refused(
            "UPDATE runs_run SET status = %s, finished_at = CASE WHEN %s THEN now() END WHERE id = %s",
            new, new in RUN_FINAL, run.pk,
        )  # fmt: skip
        if old == new:
            assert rule == ("run_final" if old in RUN_FINAL else None)
        elif rule is None:
            allowed.setdefault(old, set()).add(new)
        else:
            assert rule == ("run_final" if old in RUN_FINAL else "run_moves"), (old, new)

    assert allowed == RUN_MOVES


def test_every_status_is_in_the_diagram_exactly_once():
    assert set(STEP_MOVES) | set(STEP_FINAL) == set(StepStatus.values)
    assert set(RUN_MOVES) | set(RUN_FINAL) == set(RunStatus.values)
    assert not set(STEP_MOVES) & set(STEP_FINAL)
    assert not set(RUN_MOVES) & set(RUN_FINAL)
    assert not set(STEP_ACTIVE) & set(STEP_FINAL)
    assert {to for moves in STEP_MOVES.values() for to in moves} | {"blocked"} == set(StepStatus.values)
    assert {to for moves in RUN_MOVES.values() for to in moves} == set(RunStatus.values)


@pytest.mark.parametrize(
    "column", ["output = '1'", "reason = 'x'", "attempt = 9", "error = '{}'", "finished_at = now()"]
)
def test_no_column_of_a_finished_step_ever_changes(submit, worker, column):
    run = worker.finish(submit([ECHO]))
    before = photograph()

    assert refused(f"UPDATE runs_step SET {column} WHERE run_id = %s", run.pk) == "step_final"

    assert photograph() == before


@pytest.mark.parametrize(
    "column", ["result = '1'", "reason = 'x'", "event_seq = 9", "error = '{}'", "cancel_at = now()"]
)
def test_no_column_of_a_finished_run_ever_changes(submit, worker, column):
    run = worker.finish(submit([ECHO]))
    before = photograph()

    assert refused(f"UPDATE runs_run SET {column} WHERE id = %s", run.pk) == "run_final"

    assert photograph() == before


def test_neither_save_nor_update_of_the_orm_gets_round_the_triggers(submit, worker):
    run = worker.finish(submit([ECHO]))
    before = photograph()
    run.status, step = RunStatus.RUNNING, run.steps.get()
    step.status = StepStatus.READY

    for write in (
        run.save,
        step.save,
        lambda: Run.objects.filter(pk=run.pk).update(result=1),
        lambda: Step.objects.filter(pk=step.pk).update(output=1),
        lambda: Event.objects.filter(run=run).update(type="other"),
        lambda: Attempt.objects.filter(run=run).update(outcome="other"),
    ):
        with pytest.raises(IntegrityError):
            write()

    assert photograph() == before


def test_events_and_attempts_are_append_only(submit, worker):
    run = worker.finish(submit([ECHO]))
    before = photograph()

    assert refused("UPDATE runs_event SET data = '{}' WHERE run_id = %s", run.pk) == "event_final"
    assert refused("UPDATE runs_attempt SET error = '{}' WHERE run_id = %s", run.pk) == "attempt_final"

    assert photograph() == before
