"""A call that must not be repeated: recorded before it starts, and nobody but a person repeats it."""

import pytest

from agentsys.core.errors import InvalidInput, InvalidTransition, NotFound, PayloadTooLarge, ToolOutputTooLarge
from agentsys.runs import leases, services
from agentsys.runs.store import claims, moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support import tools
from tests.support.rows import expire, photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


def charge(key="a", how="ok", **fields):
    return {"key": key, "tool": "test.charge", "arguments": {"how": how}, **fields}


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


@pytest.fixture(autouse=True)
def called():
    """Gives the keys of the charges that were really made."""
    tools.calls.clear()
    return lambda: [key for tool, key in tools.calls if tool == "charge"]


@pytest.fixture
def unknown(submit, worker):
    """A run whose charge ended in the dark, and what comes after it."""
    run = submit([charge(how="unknown"), echo("b", "${a}")])
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("waiting", "outcome_unknown", {"a": "waiting", "b": "blocked"})
    return run


@pytest.mark.parametrize("tool", ["test.charge", "test.transfer"])
def test_the_call_is_recorded_before_it_is_made(submit, worker, step_of, called, tool):
    run = worker.finish(submit([{"key": "a", "tool": tool}]))

    step = step_of(run, "a")
    assert (run.status, len(called())) == ("succeeded", 1)
    assert step.claimed_at <= step.effect_started_at <= step.finished_at


def test_the_gate_opens_once_a_claim(submit):
    submit([charge()])
    held = claim("compute", owner="w")

    assert [claims.open_gate(held) for _ in range(3)] == [True, False, False]


@pytest.mark.promise("P5")
def test_of_many_at_the_gate_one_gets_through(submit):
    for _ in range(10):
        submit([charge()])
        held = claim("compute", owner="w")

        assert sorted(in_parallel(*[lambda one=held: claims.open_gate(one)] * 6)) == [False] * 5 + [True]


@pytest.mark.promise("P5")
@pytest.mark.parametrize("why", ["lease", "dead", "released"])
def test_a_worker_that_ends_after_the_gate_leaves_it_to_a_person(submit, step_of, settings, why):
    settings.LEASE_S = 1.0
    run = submit([charge()])
    held = claim("compute", owner="w")
    assert claims.open_gate(held)
    expire(run)

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == []

    run.refresh_from_db()
    step = step_of(run, "a")
    assert (run.status, run.reason, step.status, step.reason) == ("waiting", "outcome_unknown") * 2
    assert (step.error["code"], step.crashes, run.attempts.get().outcome) == ("outcome_unknown", 0, "waiting")
    assert claim("compute", owner="w") is None
    sweeps.wake_sleepers(), sweeps.reap_expired(), sweeps.repair_stuck()
    assert statuses(run) == {"a": "waiting"}


@pytest.mark.parametrize("why", ["lease", "dead", "released"])
def test_a_worker_that_ends_before_the_gate_leaves_it_to_the_next(submit, settings, why):
    settings.LEASE_S = 1.0
    run = submit([charge()])
    held = claim("compute", owner="w")
    expire(run)

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == ["compute"]
    assert statuses(run) == {"a": "ready"}


def test_a_lease_that_is_nearly_gone_starts_no_call_and_the_step_goes_to_the_next(submit, worker, monkeypatch, called):
    run = submit([charge()])
    real = leases.Held.ensure

    def late(self):
        sql("UPDATE runs_step SET lease_expires_at = clock_timestamp() + interval '0.1 second' WHERE attempt = 1")
        return real(self)

    monkeypatch.setattr(leases.Held, "ensure", late)
    worker.drain("compute")

    assert worker.watcher.attempts == [("execute", "a", False), ("execute", "a", True)]
    step = run.steps.get()
    assert (step.status, step.attempt, step.crashes, step.failures, len(called())) == ("succeeded", 2, 0, 0, 1)


def test_done_goes_on_with_the_result_that_was_told(unknown, worker, called):
    services.resolve(unknown, "a", outcome="done", result={"receipt": 7})
    unknown.refresh_from_db()
    assert (unknown.status, unknown.reason) == ("running", "")

    worker.finish(unknown)

    assert (unknown.status, unknown.result, len(called())) == ("succeeded", {"b": {"receipt": 7}}, 1)
    assert "step.resolved a" in events(unknown)


def test_done_as_the_last_step_ends_the_run(submit, worker):
    run = submit([charge(how="unknown")])
    worker.work()

    services.resolve(run, "a", outcome="done", result="ok")

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"a": "ok"})


def test_not_done_runs_it_again_with_the_same_key(unknown, worker, called):
    sql("UPDATE runs_step SET arguments = '{\"how\": \"ok\"}' WHERE key = 'a'")
    services.resolve(unknown, "a", outcome="not_done", result="ignored")
    assert statuses(unknown)["a"] == "ready"

    worker.finish(unknown)

    assert (unknown.status, unknown.result) == ("succeeded", {"b": "charged"})
    assert len(called()) == 2
    assert len(set(called())) == 1


def test_failed_fails_the_run_or_is_passed_over_as_any_failure(unknown, submit, worker):
    lenient = submit([charge(how="unknown", on_error="continue"), echo("b", "${a}", if_failed="null")])
    worker.work()

    services.resolve(unknown, "a", outcome="failed")
    services.resolve(lenient, "a", outcome="failed")

    unknown.refresh_from_db()
    assert (unknown.status, unknown.reason, unknown.error["code"]) == ("failed", "tool", "tool_failed")
    worker.finish(lenient)
    assert (lenient.status, lenient.result) == ("succeeded", {"b": None})


@pytest.mark.parametrize("outcome", ["done", "not_done", "failed"])
def test_the_first_word_counts(unknown, outcome):
    services.resolve(unknown, "a", outcome=outcome)
    before = photograph()

    for other in ("done", "not_done", "failed"):
        with pytest.raises(InvalidTransition):
            services.resolve(unknown, "a", outcome=other)

    assert photograph() == before


def test_of_two_words_at_the_same_moment_one_counts(submit, worker):
    for _ in range(10):
        run = submit([charge(how="unknown")])
        worker.work()

        told = in_parallel(
            lambda run=run: _word(run, "done"), lambda run=run: _word(run, "failed"), lambda run=run: _word(run, "done")
        )

        assert sum(told) == 1
        assert events(run).count("step.resolved a") == 1


def _word(run, outcome):
    try:
        services.resolve(run, "a", outcome=outcome)
    except InvalidTransition:
        return False
    return True


def test_a_word_about_anything_else_is_refused_and_changes_nothing(unknown, submit, worker):
    sleeping = submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 1000}}])
    worker.work()
    finished = worker.finish(submit([echo("a")]))
    before = photograph()

    for run, key, outcome, error in (
        (unknown, "nobody", "done", NotFound),
        (unknown, "b", "done", InvalidTransition),
        (unknown, "a\0", "done", NotFound),
        (unknown, "\ud800", "done", NotFound),
        (unknown, "a", "perhaps", InvalidInput),
        (unknown, "a", "", InvalidInput),
        (sleeping, "w", "done", InvalidTransition),
        (finished, "a", "done", InvalidTransition),
    ):
        with pytest.raises(error):
            services.resolve(run, key, outcome=outcome)

    with pytest.raises((ToolOutputTooLarge, PayloadTooLarge)):
        services.resolve(unknown, "a", outcome="done", result="x" * 2_000_000)
    assert photograph() == before


def test_a_word_in_a_cancelled_run_is_refused(unknown):
    services.cancel(unknown)
    before = photograph()

    for outcome in ("done", "not_done", "failed"):
        with pytest.raises(InvalidTransition):
            services.resolve(unknown, "a", outcome=outcome)

    assert photograph() == before


def test_a_word_racing_with_a_cancel_starts_nothing_after_it(submit, worker):
    for _ in range(10):
        run = submit([charge(how="unknown"), echo("b", depends_on=["a"])])
        worker.work()

        in_parallel(lambda run=run: _word(run, "not_done"), lambda run=run: services.cancel(run))
        worker.work()

        run.refresh_from_db()
        assert run.status == "cancelled"


def test_a_hostile_result_is_made_safe(unknown, worker):
    services.resolve(unknown, "a", outcome="done", result={"\0": ["\ud800", float("nan"), b"x"]})

    worker.finish(unknown)

    assert unknown.result == {"b": {"\ufffd": ["\ufffd", None, "x"]}}


def test_while_another_branch_moves_the_run_runs_and_afterwards_it_waits(submit, worker):
    run = submit([charge(how="unknown"), {"key": "b", "tool": "test.far"}, echo("c", ["${a}", "${b}"])])
    worker.drain("compute")
    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("running", "", {"a": "waiting", "b": "ready", "c": "blocked"})

    worker.drain("network")
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")

    services.resolve(run, "a", outcome="done", result=1)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("running", "")
    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"c": [1, None]})
    told = [one for one in events(run) if one.startswith("run.")]
    assert told == ["run.queued", "run.running", "run.waiting", "run.running", "run.succeeded"]


def test_of_two_calls_in_the_dark_each_needs_its_own_word(submit, worker):
    run = submit([charge("a", "unknown"), charge("b", "unknown"), echo("c", ["${a}", "${b}"])])
    worker.work()

    services.resolve(run, "a", outcome="done", result=1)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")
    services.resolve(run, "b", outcome="done", result=2)
    worker.finish(run)

    assert run.result == {"c": [1, 2]}
