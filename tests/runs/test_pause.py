"""A paused run starts nothing, keeps what its running steps give, and goes on where it was."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from agentsys.core.errors import InvalidTransition, NotFound, ToolFailed, ToolUnavailable
from agentsys.runs import control, handlers, leases, services, verify
from agentsys.runs.models import Run
from agentsys.runs.store import claims, expansion, moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from agentsys.runs.store.create import steps_of
from tests.support.rows import expire, photograph, sql, wake_now
from tests.support.threads import in_parallel
from tests.support.worker import Worker, events, statuses

ROUNDS = 20


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def now(run):
    run.refresh_from_db()
    return run.status, run.reason


def started_while_paused(run):
    """Steps whose start is told between a pause and the resume after it."""
    paused, started = False, []
    for event in run.events.order_by("seq"):
        paused = (paused or event.type == "run.paused") and event.type != "run.resumed"
        started += [event.step] if paused and event.type == "step.started" else []
    return started


# --- Each state ------------------------------------------------------------------------
def test_a_queued_run_pauses_and_resumes_to_queued(submit, worker):
    run = submit([echo("a"), echo("b", depends_on=["a"])])

    paused = control.pause(run)

    assert (paused.status, paused.reason) == ("paused", "operator")
    assert statuses(run) == {"a": "queued", "b": "blocked"}
    assert worker.work() == 0
    assert sweeps.due_lanes(older_than_s=0) == []
    assert control.resume(run).status == "queued"
    assert events(run) == ["run.queued", "run.paused", "run.resumed", "run.queued"]
    assert worker.finish(run).status == "succeeded"


def test_what_runs_ends_its_result_is_kept_and_its_children_wait_for_the_resume(submit, step_of, worker):
    run = submit([echo("a"), *(echo(f"b{n}", depends_on=["a"]) for n in range(3)), echo("c")])
    held = claim("compute", owner="w")
    control.pause(run)

    done = complete(held, Result("kept"))

    assert (done.next, list(done.lanes)) == (None, [])
    assert step_of(run, "a").output == "kept"
    assert statuses(run) == {"a": "succeeded", "b0": "queued", "b1": "queued", "b2": "queued", "c": "queued"}
    assert now(run) == ("paused", "operator")
    assert claim("compute", owner="w") is None
    assert control.resume(run).status == "running"
    assert set(statuses(run).values()) == {"succeeded", "ready"}
    assert worker.finish(run).status == "succeeded"
    assert started_while_paused(run) == []


def test_a_paused_run_with_nothing_left_ends_normally(submit):
    run = submit([echo("a")])
    held = claim("compute", owner="w")
    control.pause(run)

    complete(held, Result(7))

    assert now(run) == ("succeeded", "complete")
    assert run.result == {"a": 7}


def test_a_paused_run_whose_last_step_fails_fails(submit):
    run = submit([echo("a"), echo("b")])
    held = claim("compute", owner="w")
    control.pause(run)

    moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

    assert now(run) == ("failed", "tool")
    assert statuses(run) == {"a": "failed", "b": "cancelled"}


def test_a_failure_that_the_plan_allows_wakes_nobody_in_a_paused_run(submit, worker):
    steps = [echo("a", on_error="continue"), echo("b", depends_on=["a"], if_failed="null"), echo("c", depends_on=["a"])]
    run = submit(steps)
    held = claim("compute", owner="w")
    control.pause(run)

    lanes = moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

    assert (list(lanes), statuses(run)) == ([], {"a": "failed", "b": "queued", "c": "skipped"})
    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def test_a_try_that_fails_sleeps_and_what_comes_due_stays_in_its_paused_run(submit, worker):
    run = submit([echo("a")])
    held = claim("compute", owner="w")
    control.pause(run)
    moves.fail(held, moves.Fault(ToolUnavailable("later"), "tool"))
    assert statuses(run) == {"a": "sleeping"}
    wake_now(run)

    assert sweeps.wake_sleepers() == []

    assert statuses(run) == {"a": "queued"}
    assert worker.work() == 0
    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def test_a_timer_that_ran_out_while_paused_does_not_begin_again(submit, worker):
    run = submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}])
    worker.work()
    control.pause(run)
    assert statuses(run) == {"w": "sleeping"}
    wake_now(run)
    sweeps.wake_sleepers()

    assert control.resume(run).status == "running"

    worker.work()
    assert now(run) == ("succeeded", "complete")


def test_a_run_that_waits_for_its_start_keeps_waiting_after_the_resume(submit, worker):
    run = submit([echo()], start_at=datetime.now(UTC) + timedelta(hours=1))
    control.pause(run)
    assert now(run) == ("paused", "operator")

    resumed = control.resume(run)

    assert (resumed.status, resumed.reason) == ("queued", "start_at")
    assert worker.work() == 0


def test_a_run_that_waits_for_a_word_hears_it_while_paused_and_goes_on_later(submit, worker):
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}, echo("b", depends_on=["a"])])
    worker.work()
    assert now(run) == ("waiting", "outcome_unknown")

    assert control.pause(run).status == "paused"
    assert control.resume(run).status == "waiting"
    assert now(run) == ("waiting", "outcome_unknown")
    control.pause(run)
    services.resolve(run, "a", outcome="done", result="yes")

    assert now(run) == ("paused", "operator")
    assert statuses(run) == {"a": "succeeded", "b": "queued"}
    assert control.resume(run).status == "running"
    assert worker.finish(run).result == {"b": None}


def test_a_call_that_did_not_happen_runs_again_only_after_the_resume(submit, worker):
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}])
    worker.work()
    control.pause(run)

    services.resolve(run, "a", outcome="not_done")

    assert statuses(run) == {"a": "queued"}
    assert worker.work() == 0
    control.resume(run)
    assert worker.work() == 1


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_finished_run_can_be_neither_paused_nor_resumed(submit, worker, end):
    run = submit([{"key": "a", "tool": "test.fail"}] if end == "failed" else [echo()])
    if end == "cancelled":
        services.cancel(run)
    worker.finish(run)
    before = photograph()

    for ask in (control.pause, control.resume):
        with pytest.raises(InvalidTransition) as caught:
            ask(run)
        assert caught.value.data["status"] == end

    assert photograph() == before


def test_a_stopping_run_can_be_neither_paused_nor_resumed(submit):
    run = submit([echo()])
    held = claim("compute", owner="w")
    services.cancel(run)
    before = photograph()

    for ask in (control.pause, control.resume):
        with pytest.raises(InvalidTransition):
            ask(run)

    assert photograph() == before
    complete(held, Result(1))


def test_pausing_twice_and_resuming_what_is_not_paused_change_nothing(submit):
    run = submit([echo()])
    before = photograph()
    with pytest.raises(InvalidTransition):
        control.resume(run)
    assert photograph() == before
    control.pause(run)
    before = photograph()

    assert control.pause(run).status == "paused"

    assert photograph() == before


def test_a_run_that_is_not_there_cannot_be_paused(submit):
    run = submit([echo()])
    Run.objects.filter(pk=run.pk).delete()

    for ask in (control.pause, control.resume):
        with pytest.raises(NotFound):
            ask(run)
    assert sweeps.recount_slots() == 1  # its step went without a word


# --- What ends it all the same ---------------------------------------------------------
def test_a_paused_run_is_cancelled_at_once(submit):
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    control.pause(run)

    assert services.cancel(run).status == "cancelled"

    assert statuses(run) == {"a": "cancelled", "b": "cancelled"}


def test_the_deadline_ends_a_paused_run(submit):
    run = submit([echo("a")], deadline_s=3600)
    control.pause(run)
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() - interval '1 second'")

    sweeps.end_past_deadline()

    assert now(run) == ("failed", "deadline")


def test_the_gate_of_a_running_unsafe_step_still_opens(submit):
    run = submit([{"key": "a", "tool": "test.charge"}])
    held = claim("compute", owner="w")
    control.pause(run)

    assert claims.open_gate(held)

    complete(held, Result("charged"))
    assert now(run) == ("succeeded", "complete")


@pytest.mark.parametrize("why", ["dead", "released", "lease"])
def test_a_step_given_back_in_a_paused_run_waits_for_the_resume(submit, settings, why):
    settings.LEASE_S = 1.0
    run = submit([echo("a")])
    held = claim("compute", owner="w")
    control.pause(run)
    expire(run)

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == []

    assert statuses(run) == {"a": "queued"}
    assert claim("compute", owner="w") is None
    control.resume(run)
    assert claim("compute", owner="w").key == "a"
    moves.give_back(held.id, run.pk, run.steps.get().claim_token, why="released")


def test_a_plan_made_while_paused_does_not_begin(submit, worker):
    run = submit(goal='Count the words in "one two three"')
    held = claim("model", owner="w")
    control.pause(run)

    _go_on(held)

    assert "queued" in statuses(run).values()
    assert worker.work() == 0
    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def _go_on(held):
    """Execute a claim as the engine does."""
    kept = leases.hold(held)
    outcome = handlers.HANDLERS[held.kind](kept)
    assert list(expansion.expand(held, outcome.result, steps_of(outcome.plan, outcome.tools))) == []
    leases.drop(kept)


# --- Races ------------------------------------------------------------------------------
def test_a_pause_racing_with_completions_and_claims_lets_nothing_start_after_it(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b"), *(echo(f"c{n}", depends_on=["a", "b"]) for n in range(3)), echo("d")])
        held = [claim("compute", owner=name) for name in "xy"]

        in_parallel(
            lambda one=held[0]: complete(one, Result(1)),
            lambda one=held[1]: complete(one, Result(1)),
            lambda run=run: control.pause(run),
            lambda: claim("compute", owner="z"),
        )

        assert started_while_paused(run) == []
        assert "ready" not in statuses(run).values()
        control.resume(run)
        _drain(run)


def _drain(run):
    """Give back what others have claimed, then run to the end."""
    for step in run.steps.filter(status="running"):
        moves.give_back(step.pk, run.pk, step.claim_token, why="released")
    assert Worker("late").finish(run).status == "succeeded"


def test_a_pause_racing_with_the_sweeper_never_leaves_a_step_ready(submit):
    for _ in range(ROUNDS):
        run = submit([echo(f"s{n}") for n in range(4)])
        for _ in range(4):
            moves.sleep(claim("compute", owner="w"), delay_s=0)

        in_parallel(sweeps.wake_sleepers, lambda run=run: control.pause(run), sweeps.wake_sleepers)
        sweeps.wake_sleepers()

        assert set(statuses(run).values()) == {"queued"}
        services.cancel(run)


def test_a_pause_racing_with_the_last_completion_gives_one_end(submit):
    ends = set()
    for _ in range(ROUNDS):
        run = submit([echo("a")])
        held = claim("compute", owner="w")

        in_parallel(lambda one=held: complete(one, Result(1)), lambda run=run: _try(control.pause, run))

        assert now(run) == ("succeeded", "complete")
        ends.add(tuple(events(run)))
    assert ends


def _try(ask, run):
    with suppress(InvalidTransition):
        return ask(run)


def test_two_resumes_at_once_are_one(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b")])
        control.pause(run)

        answers = in_parallel(*[lambda run=run: _try(control.resume, run)] * 2)

        assert len([one for one in answers if one]) == 1
        assert events(run).count("run.resumed") == 1
        services.cancel(run)


def test_a_pause_racing_with_a_cancel_ends_cancelled(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b", depends_on=["a"])])

        in_parallel(lambda run=run: _try(control.pause, run), lambda run=run: services.cancel(run))

        assert now(run) == ("cancelled", "user")


def test_pauses_and_resumes_while_workers_work_lose_nothing(submit):
    for _ in range(ROUNDS // 4):
        chain = [echo("s0"), *(echo(f"s{n}", depends_on=[f"s{n - 1}"]) for n in range(1, 40))]
        run = submit([*chain, *(echo(f"p{n}") for n in range(20))])

        in_parallel(
            lambda: Worker("x").drain("compute"), lambda: Worker("y").drain("compute"), lambda run=run: _seesaw(run)
        )

        assert started_while_paused(run) == []
        assert Worker("z").finish(run).status == "succeeded"
        assert run.attempts.count() == 60


def _seesaw(run):
    for _ in range(10):
        _try(control.pause, run)
        _try(control.resume, run)


@pytest.mark.promise("P17")
def test_a_resume_and_a_timer_that_runs_out_leave_nothing_held(submit):
    """The sweep has seen the pause when the resume looks for what it holds."""
    for _ in range(3 * ROUNDS):
        run = submit([echo()])
        held = claim("compute", owner="w")
        control.pause(run)
        moves.sleep(held, delay_s=0)

        in_parallel(sweeps.wake_sleepers, lambda run=run: control.resume(run))

        sweeps.wake_sleepers()
        sweeps.admit()
        assert list(run.steps.values_list("status", "held")) == [("ready", "")]
        services.cancel(run)


@pytest.mark.violates
def test_what_is_held_in_a_run_that_is_not_is_an_alarm_and_is_repaired(submit, worker):
    run = submit([echo()])
    sql("UPDATE runs_laneslot SET used = 0")
    sql("UPDATE runs_step SET status = 'queued', held = 'paused', ready_at = NULL")
    assert [f.name for f in verify.check() if f.violations] == ["I9"]

    assert sweeps.repair_stuck() == 1

    assert worker.finish(run).status == "succeeded"
