"""A stop that stops: whatever the run was doing, nothing of it starts afterwards."""

from contextlib import suppress

import pytest

from agentsys.core.errors import InvalidTransition, NotFound, ToolFailed
from agentsys.runs import services
from agentsys.runs.models import Run
from agentsys.runs.store import claims, moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import expire, photograph, sql, wake_now
from tests.support.threads import in_parallel, until
from tests.support.worker import Worker, events, statuses

ROUNDS = 20


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def started_after_cancel(run):
    told = events(run)
    return [one for one in told[told.index("run.cancelling") :] if one.startswith("step.started")]


def test_a_run_that_has_not_started_is_cancelled_at_once(submit):
    run = submit([echo("a"), echo("b", depends_on=["a"])])

    run = services.cancel(run)

    assert (run.status, run.reason, run.error, run.result) == ("cancelled", "user", None, None)
    assert run.cancel_at is not None
    assert run.finished_at is not None
    assert statuses(run) == {"a": "cancelled", "b": "cancelled"}
    assert events(run) == ["run.queued", "run.cancelling", "step.cancelled a", "step.cancelled b", "run.cancelled"]
    assert claim("compute", owner="w") is None


def test_what_runs_drains_and_its_late_result_opens_nothing(submit, step_of):
    run = submit([echo("a"), echo("b"), echo("c", depends_on=["a"])])
    a, b = claim("compute", owner="w"), claim("compute", owner="w")

    run = services.cancel(run)

    assert (run.status, run.reason, run.finished_at) == ("cancelling", "user", None)
    assert statuses(run) == {"a": "running", "b": "running", "c": "cancelled"}
    assert claims.heartbeat([(a.id, a.claim_token), (b.id, b.claim_token)]) == {
        a.claim_token: claims.Beat(cancelled=True, renewed=True),
        b.claim_token: claims.Beat(cancelled=True, renewed=True),
    }
    late = complete(a, Result("late"))
    assert (late.next, list(late.lanes)) == (None, [])
    moves.fail(b, moves.Fault(ToolFailed("also late"), "tool"))

    run.refresh_from_db()
    assert (run.status, run.reason, run.result, run.error) == ("cancelled", "user", None, None)
    assert (step_of(run, "a").output, statuses(run)["b"]) == ("late", "cancelled")
    assert started_after_cancel(run) == []


def test_a_sleeping_run_is_cancelled_and_does_not_wake(submit, worker):
    run = submit([{"key": "a", "kind": "wait", "arguments": {"seconds": 1000}}, echo("b", depends_on=["a"])])
    worker.work()
    assert statuses(run)["a"] == "sleeping"

    assert services.cancel(run).status == "cancelled"

    wake_now(run)
    assert sweeps.wake_sleepers() == []
    assert statuses(run) == {"a": "cancelled", "b": "cancelled"}


def test_a_run_that_waits_for_somebodys_word_is_cancelled_and_keeps_what_is_unknown(submit, worker, step_of):
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}, echo("b", depends_on=["a"])])
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")

    assert services.cancel(run).status == "cancelled"

    assert step_of(run, "a").error["code"] == "outcome_unknown"


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_finished_run_cannot_be_cancelled(submit, worker, end):
    run = submit([{"key": "a", "tool": "test.fail"}] if end == "failed" else [echo()])
    if end == "cancelled":
        services.cancel(run)
    worker.finish(run)
    before = photograph()

    with pytest.raises(InvalidTransition) as caught:
        services.cancel(run)

    assert caught.value.data["status"] == end
    assert photograph() == before


def test_cancelling_twice_while_it_drains_changes_nothing_more(submit):
    run = submit([echo()])
    held = claim("compute", owner="w")
    services.cancel(run)
    before = photograph()

    assert services.cancel(run).status == "cancelling"

    assert photograph() == before
    complete(held, Result(1))


def test_a_run_that_is_not_there_cannot_be_cancelled(submit):
    run = submit([echo()])
    Run.objects.filter(pk=run.pk).delete()

    with pytest.raises(NotFound):
        services.cancel(run)
    assert sweeps.recount_slots() == 1  # its step went without a word


def test_a_step_given_back_in_a_stopping_run_ends(submit):
    for why in ("dead", "released"):
        run = submit([echo("a")])
        held = claim("compute", owner="w")
        services.cancel(run)

        assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == []

        run.refresh_from_db()
        assert (run.status, statuses(run)) == ("cancelled", {"a": "cancelled"})
        assert run.attempts.get().outcome == {"dead": "crashed", "released": "released"}[why]


def test_an_unsafe_call_cut_off_in_a_stopping_run_ends_and_is_never_repeated(submit, step_of):
    """Nobody's word is needed any more: the run ends, and says what it does not know."""
    run = submit([{"key": "a", "tool": "test.charge"}, echo("b", depends_on=["a"])])
    held = claim("compute", owner="w")
    assert claims.open_gate(held)
    services.cancel(run)

    moves.give_back(held.id, run.pk, held.claim_token, why="dead")

    run.refresh_from_db()
    assert (run.status, statuses(run)["a"]) == ("cancelled", "cancelled")
    assert step_of(run, "a").error["code"] == "outcome_unknown"
    assert step_of(run, "a").effect_started_at is not None


def test_the_gate_of_an_unsafe_call_stays_shut_in_a_stopping_run(submit, worker):
    run = submit([{"key": "a", "tool": "test.charge"}])
    held = claim("compute", owner="w")
    services.cancel(run)

    assert claims.open_gate(held) is False

    moves.give_back(held.id, run.pk, held.claim_token, why="released")
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_poisonous_step_of_a_stopping_run_is_cancelled_with_it(submit, settings):
    settings.LEASE_S = 1.0
    run = submit([echo("a")])
    sql("UPDATE runs_step SET crashes = 2")
    claim("compute", owner="w")
    services.cancel(run)
    expire(run)

    sweeps.reap_expired()

    run.refresh_from_db()
    assert (run.status, run.reason, run.error) == ("cancelled", "user", None)


@pytest.mark.promise("P15")
def test_a_cancel_racing_with_completions_never_lets_a_step_start_after_it(submit):
    outcomes = set()
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b"), *(echo(f"c{n}", depends_on=["a", "b"]) for n in range(3))])
        held = [claim("compute", owner=name) for name in "xy"]

        in_parallel(
            lambda one=held[0]: complete(one, Result(1)),
            lambda one=held[1]: complete(one, Result(1)),
            lambda run=run: services.cancel(run),
            lambda: claim("compute", owner="z"),
        )

        assert started_after_cancel(run) == []
        outcomes.add(len(events(run)))
        _drain(run)
    assert outcomes


def _drain(run):
    for step in run.steps.filter(status="running"):
        moves.give_back(step.pk, run.pk, step.claim_token, why="released")
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_cancel_racing_with_workers_stops_a_long_chain(submit):
    for _ in range(ROUNDS // 4):
        chain = [echo("s0"), *(echo(f"s{n}", depends_on=[f"s{n - 1}"]) for n in range(1, 60))]
        run = submit([*chain, *(echo(f"p{n}") for n in range(20))])

        in_parallel(
            lambda: Worker("x").drain("compute"),
            lambda: Worker("y").drain("compute"),
            lambda run=run: _cancel_once_it_runs(run),
        )

        run.refresh_from_db()
        if run.status == "cancelled":  # else it was quicker than the cancel
            assert started_after_cancel(run) == []
            assert "cancelled" in statuses(run).values()
        else:
            assert run.status == "succeeded"


def _cancel_once_it_runs(run):
    until(lambda: run.events.filter(type="step.succeeded").exists())
    _try_cancel(run)


def test_a_cancel_racing_with_the_last_completion_gives_one_end(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a")])
        held = claim("compute", owner="w")

        in_parallel(lambda one=held: complete(one, Result(1)), lambda run=run: _try_cancel(run))

        run.refresh_from_db()
        ends = [told for told in events(run) if told in ("run.succeeded", "run.cancelled")]
        assert ends == [f"run.{run.status}"]
        assert run.result == ({"a": 1} if run.status == "succeeded" else None)


def _try_cancel(run):
    with suppress(InvalidTransition):
        services.cancel(run)


def test_a_cancel_racing_with_the_sweeper_and_the_reaper_leaves_nothing_open(submit, settings):
    settings.LEASE_S = 1.0
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b"), echo("c")])
        a, _b = claim("compute", owner="w"), claim("compute", owner="w")
        moves.sleep(a, delay_s=0)
        expire(run)

        in_parallel(
            lambda run=run: services.cancel(run),
            sweeps.wake_sleepers,
            sweeps.reap_expired,
            lambda: claim("compute", owner="z"),
        )

        assert started_after_cancel(run) == []
        _drain(run)


def test_a_deadline_fails_the_run_and_stops_it(submit):
    late, early = submit([echo("a"), echo("b")], deadline_s=3600), submit([echo("c")], deadline_s=3600)
    held = claim("compute", owner="w")
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() - interval '1 second' WHERE id = %s", late.pk)

    sweeps.end_past_deadline()
    sweeps.end_past_deadline()

    late.refresh_from_db()
    assert (late.status, late.reason, statuses(late)) == ("cancelling", "policy", {"a": "running", "b": "cancelled"})
    complete(held, Result(1))
    late.refresh_from_db(), early.refresh_from_db()
    assert (late.status, late.reason, late.error["code"]) == ("failed", "deadline", "deadline_exceeded")
    assert early.status == "queued"


@pytest.mark.violates
def test_one_run_that_cannot_be_stopped_does_not_keep_the_others_from_their_deadline(submit):
    broken, sound = submit([echo("a"), echo("b")], deadline_s=3600), submit([echo("c")], deadline_s=3600)
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() - interval '1 second'")
    sql("UPDATE runs_run SET open_steps = 1, active_steps = 1 WHERE id = %s", broken.pk)

    sweeps.end_past_deadline()

    broken.refresh_from_db(), sound.refresh_from_db()
    assert (broken.status, sound.status) == ("queued", "failed")
