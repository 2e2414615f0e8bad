"""What a process knows of the steps in its hands, and what it does about those that are late, lost or unwanted."""

import time

import pytest

from agentsys.core.errors import (
    AgentSysError,
    DatabaseUnavailable,
    LeaseLost,
    OutcomeUnknown,
    StepTimeout,
    ToolFailed,
    ToolUnavailable,
)
from agentsys.runs import handlers, leases, services
from agentsys.runs.models import Step
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from agentsys.tools.testing import context
from tests.support.worker import statuses


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture
def hold():
    """Claims what is due and takes it into this process's hands."""
    taken = []

    def take(owner="me", timeout_s=None):
        held = leases.hold(claim("compute", owner=owner))
        held.context = context()
        if timeout_s is not None:
            held.deadline_at = time.monotonic() + timeout_s
        taken.append(held)
        return held

    yield take
    for held in taken:
        leases.drop(held)


LATE_S = -leases.GRACE_S - 1


def test_a_step_past_its_time_is_failed_tried_again_and_its_late_result_is_fenced(submit, hold, step_of):
    run = submit([echo(max_attempts=2)])
    held = hold(timeout_s=LATE_S)

    assert leases.overdue() is True
    assert leases.overdue() is False

    step = step_of(run, "a")
    assert (step.status, step.failures, step.error["code"]) == ("sleeping", 1, StepTimeout.code)
    assert (held.lost, held.context.cancelled) == (True, True)
    with pytest.raises(LeaseLost):
        complete(held.claim, Result("late"))
    with pytest.raises(LeaseLost):
        held.ensure()


def test_a_step_within_its_time_or_only_to_be_recorded_is_left_alone(submit, hold):
    run = submit([echo("a"), echo("b")])
    hold(timeout_s=LATE_S + 1.5)
    hold(timeout_s=LATE_S).done = True

    assert leases.overdue() is False
    leases.beat("me")

    assert statuses(run) == {"a": "running", "b": "running"}


def test_a_late_step_is_no_longer_renewed(submit, hold):
    submit([echo("a"), echo("b")])
    late, fine = hold(timeout_s=LATE_S), hold()
    before = _leases()

    leases.beat("me")

    after = _leases()
    assert after[late.claim.id] == before[late.claim.id]
    assert after[fine.claim.id] > before[fine.claim.id]


def _leases():
    return dict(Step.objects.values_list("pk", "lease_expires_at"))


def test_an_unsafe_call_past_its_time_is_in_the_dark(submit, hold):
    run = submit([{"key": "a", "tool": "test.charge"}])
    held = hold(timeout_s=LATE_S)
    held.deadline_at += 1000
    held.ensure()
    held.deadline_at -= 1000

    leases.overdue()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")


def test_a_process_hears_that_a_step_was_taken_from_it(submit, hold):
    submit([echo("a"), echo("b")])
    taken, kept = hold(), hold()
    moves.give_back(taken.claim.id, taken.claim.run_id, taken.claim.claim_token, why="dead")

    leases.beat("me")

    assert (taken.lost, taken.context.cancelled) == (True, True)
    assert (kept.lost, kept.context.cancelled) == (False, False)
    with pytest.raises(LeaseLost):
        taken.ensure()
    kept.ensure()


def test_a_process_hears_that_a_run_is_to_stop(submit, hold):
    run, other = submit([echo("a")]), submit([echo("b")])
    stopped, goes_on = hold(), hold()
    services.cancel(run)

    leases.beat("me")

    assert (stopped.cancelled, stopped.lost, stopped.context.cancelled) == (True, False, True)
    assert (goes_on.cancelled, goes_on.context.cancelled) == (False, False)
    complete(stopped.claim, Result(1))
    assert other.pk != run.pk


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (ToolUnavailable("x"), "waiting"),
        (StepTimeout("x"), "waiting"),
        (DatabaseUnavailable(), "waiting"),
        (ToolUnavailable("x", sent=True), "waiting"),
        (ToolUnavailable("x", sent=False), "sleeping"),
        (ToolFailed("x"), "failed"),
        (ToolFailed("failed with KeyError", exception="KeyError"), "waiting"),
        (OutcomeUnknown("x"), "waiting"),
        (AgentSysError(), "waiting"),
        (KeyError("ours"), "waiting"),
    ],
    ids=repr,
)
def test_after_the_gate_only_a_plain_no_is_believed(submit, worker, monkeypatch, error, becomes):
    """Whether the money has left nobody knows; to try again or to say that it has not would be a guess."""

    def breaks(held):
        held.ensure()
        raise error

    run = submit([{"key": "a", "tool": "test.charge", "on_error": "continue"}, echo("b", depends_on=["a"])])
    with monkeypatch.context() as patch:
        patch.setitem(handlers.HANDLERS, "tool", breaks)
        worker.drain("compute")

    assert statuses(run)["a"] == becomes
    assert statuses(run)["b"] == ("skipped" if becomes == "failed" else "blocked")
    assert "ours" not in str(run.steps.get(key="a").error)


def test_before_the_gate_every_error_is_what_it_says(submit, worker, monkeypatch):
    def breaks(held):
        raise ToolUnavailable("x")

    run = submit([{"key": "a", "tool": "test.charge", "max_attempts": 2}])
    with monkeypatch.context() as patch:
        patch.setitem(handlers.HANDLERS, "tool", breaks)
        worker.drain("compute")

    assert statuses(run) == {"a": "sleeping"}


def test_a_process_that_ends_in_the_middle_of_an_unsafe_call_leaves_it_to_a_person(submit, hold):
    run = submit([{"key": "a", "tool": "test.charge"}, echo("b")])
    held, other = hold(), hold()
    held.ensure()

    assert leases.release_all("me") == 2

    assert (held.lost, other.lost) == (True, True)
    assert statuses(run) == {"a": "waiting", "b": "ready"}
    assert sweeps.repair_stuck() == 0
