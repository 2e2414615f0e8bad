"""PostgreSQL goes away in the middle of a step and comes back: the step's work is done again, not failed."""

import pytest
from django.db import OperationalError

from agentsys.core.errors import DatabaseUnavailable, ToolFailed
from agentsys.runs import engine, handlers, leases
from agentsys.runs.store import complete, moves, sweeps
from agentsys.runs.store.claims import Result
from tests.support import tools
from tests.support.outages import lose_answer
from tests.support.rows import expire, value
from tests.support.threads import background
from tests.support.worker import events, statuses


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


@pytest.fixture(autouse=True)
def called():
    """Gives the keys of the charges that were really made."""
    tools.calls.clear()
    return lambda: [key for tool, key in tools.calls if tool == "charge"]


def kill_own_connection():
    pid = value("SELECT pg_backend_pid()")
    with background() as start:
        start(lambda: value("SELECT pg_terminate_backend(%s, 10000)", pid)).result()


@pytest.mark.parametrize("template", ["${a}", "${input}", "${files.f}"])
def test_a_connection_lost_while_arguments_are_read_costs_no_try(submit, worker, monkeypatch, template):
    run = submit([echo("a", 1), echo("b", [template, "${a}"], max_attempts=1)], input=2, files={"f": b"3"})
    real, killed = handlers.rendered, []

    def rendered(run_id, arguments):
        if "${a}" in str(arguments) and not killed:  # the first attempt at b
            killed.append(True)
            kill_own_connection()
        return real(run_id, arguments)

    monkeypatch.setattr(handlers, "rendered", rendered)
    worker.finish(run)

    step = run.steps.get(key="b")
    assert (run.status, step.attempt, step.failures, step.crashes) == ("succeeded", 2, 0, 0)
    assert events(run).count("step.retrying b") == 1


@pytest.mark.parametrize("executed", [True, False])
def test_a_connection_lost_at_the_gate_starts_no_call_and_costs_no_try(submit, worker, monkeypatch, called, executed):
    run = submit([{"key": "a", "tool": "test.charge", "max_attempts": 1}])
    lose_answer(monkeypatch, "open_gate", executed=executed)

    worker.finish(run)

    step = run.steps.get()
    assert (run.status, step.attempt, step.failures, len(called())) == ("succeeded", 2, 0, 1)


def test_a_connection_lost_inside_a_tool_is_tried_again(submit, worker, monkeypatch):
    run = submit([{"key": "a", "tool": "files.list", "max_attempts": 1}])
    real, killed = handlers.files.listing, []

    def listing(run_id, **how):
        if not killed:
            killed.append(True)
            kill_own_connection()
        return real(run_id, **how)

    monkeypatch.setattr(handlers.files, "listing", listing)
    worker.finish(run)

    assert (run.status, run.steps.get().attempt) == ("succeeded", 2)


def test_an_outage_longer_than_a_lease_while_a_result_is_recorded_does_not_fail_the_step(
    submit, worker, monkeypatch, settings
):
    settings.LEASE_S = 0.2
    run = submit([echo("a", 7, max_attempts=1)])
    with pytest.MonkeyPatch.context() as outage:
        lose_answer(outage, "complete", executed=False, times=1_000)
        worker.drain("compute")

    assert statuses(run) == {"a": "sleeping"}
    assert run.steps.get().error["code"] == DatabaseUnavailable.code
    worker.finish(run)
    assert (run.status, run.result, run.steps.get().failures) == ("succeeded", {"a": 7}, 0)


def test_the_same_after_an_unsafe_call_waits_for_somebodys_word(submit, worker, settings, called):
    settings.LEASE_S = 1.0
    run = submit([{"key": "a", "tool": "test.charge"}])
    with pytest.MonkeyPatch.context() as outage:
        lose_answer(outage, "complete", executed=False, times=1_000)
        worker.drain("compute")

    run.refresh_from_db()
    assert (run.status, run.reason, len(called())) == ("waiting", "outcome_unknown", 1)


def test_a_result_that_was_recorded_unseen_stays_although_the_outage_goes_on(submit, worker, settings):
    settings.LEASE_S = 0.2
    run = submit([echo("a", 7)])
    with pytest.MonkeyPatch.context() as outage:
        lose_answer(outage, "complete", executed=True, times=1)
        lose_answer(outage, "completion_state", executed=False, times=1_000)
        worker.drain("compute")

    run.refresh_from_db()
    assert (run.status, run.result, run.attempts.count()) == ("succeeded", {"a": 7}, 1)


def test_an_outage_that_never_ends_leaves_the_step_to_the_reaper(submit, worker, settings):
    settings.LEASE_S = 0.2
    run = submit([echo("a", 7)])
    with pytest.MonkeyPatch.context() as outage:
        lose_answer(outage, "complete", executed=False, times=1_000)
        lose_answer(outage, "lock_run", executed=False, times=1_000)
        with pytest.raises(OperationalError):
            worker.drain("compute")

    assert leases.held() == []  # or this process would renew it for ever
    assert statuses(run) == {"a": "running"}
    sweeps.reap_expired()
    worker.finish(run)
    assert (run.status, run.result) == ("succeeded", {"a": 7})


def test_an_outage_that_ends_a_turn_leaves_none_of_its_claims_in_this_process(submit, worker, settings, monkeypatch):
    settings.LEASE_S = 0.2
    monkeypatch.setattr(engine, "LINGER_S", 10)
    monkeypatch.setattr(engine, "QUICK_S", 10)
    runs = [submit([echo("a", n), echo("b", n)]) for n in range(8)]
    real, done = handlers.HANDLERS["tool"], []

    def tool(held):
        done.append(held)
        if len(done) == 6:  # by now several are claimed at a time
            lose_answer(outage, "complete", executed=False, times=1_000)
            lose_answer(outage, "lock_run", executed=False, times=1_000)
            raise ToolFailed("and nobody can write it down")
        return real(held)

    with pytest.MonkeyPatch.context() as outage:
        outage.setitem(handlers.HANDLERS, "tool", tool)
        with pytest.raises(OperationalError):
            worker.drain("compute")

    assert leases.held() == []
    assert sum("running" in statuses(run).values() for run in runs) > 1
    for run in runs:
        expire(run)
    sweeps.reap_expired()
    assert [worker.finish(run).status for run in runs] == ["succeeded"] * 8


def test_after_an_outage_longer_than_a_lease_the_results_of_a_batch_are_written_together(
    submit, worker, settings, monkeypatch
):
    settings.LEASE_S = 0.2
    monkeypatch.setattr(engine, "LINGER_S", 10)
    monkeypatch.setattr(engine, "QUICK_S", 10)
    runs = [submit([echo("a", n)]) for n in range(7)]  # recorded one, two and four at a time
    sizes, fail, real = [], moves.fail, complete.complete_all
    outage = pytest.MonkeyPatch()

    def recorded(done, *, claim_next):
        sizes.append(len(done))
        if len(done) == 4:
            lose_answer(outage, "complete", executed=False, times=1_000)
        return real(done, claim_next=claim_next)

    def failed(*args):
        outage.undo()  # it is back
        return fail(*args)

    monkeypatch.setattr(complete, "complete_all", recorded)
    monkeypatch.setattr(moves, "fail", failed)
    worker.drain("compute")

    assert sizes == [1, 2, 4, 3]  # not four times one, each for a lease
    found = [run.steps.get() for run in runs]
    assert sorted(step.status for step in found) == ["sleeping", *["succeeded"] * 6]
    assert all(step.failures == step.crashes == 0 for step in found)
    assert [worker.finish(run).status for run in runs] == ["succeeded"] * 7


def test_a_failure_that_cannot_be_recorded_at_first_is_recorded_later(submit, worker, settings):
    run = submit([{"key": "a", "tool": "test.fail"}])
    with pytest.MonkeyPatch.context() as outage:
        lose_answer(outage, "lock_run", executed=False, times=2)
        worker.drain("compute")

    run.refresh_from_db()
    assert (run.status, run.error["code"], run.attempts.count()) == ("failed", "tool_failed", 1)
    assert Result(1).output == 1
