"""Planning anew at the very moment of something else: nothing that is superseded has started, nothing is lost."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from agentsys.core.errors import InvalidTransition, ToolFailed, TooManyMessages, TooManyPlans
from agentsys.runs import control, verify
from agentsys.runs.models import Event, Run, Step
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import sql
from tests.support.threads import in_parallel
from tests.support.worker import Worker, statuses

ROUNDS = 15


def echo(key, *parents, **fields):
    value = [f"${{{parent}}}" for parent in parents] or key
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


@pytest.fixture
def otherwise(planner):
    """Another plan: one step with a key that is surely free; asks the run for it."""
    made = []

    def plan():
        made.append(1)
        return {"steps": [echo(f"new{len(made)}")]}

    planner(plan)
    return _ask


def _ask(run):
    with suppress(InvalidTransition, TooManyPlans, TooManyMessages):
        control.message(run, "Otherwise.", replan=True)


def check(run):
    """What is superseded never started; all else is as the invariants want it."""
    assert [finding for finding in verify.check() if finding.violations] == []
    superseded = Step.objects.filter(run=run, reason="superseded")
    assert not superseded.exclude(attempt=0).exists()
    started = set(Event.objects.filter(run=run, type="step.started").values_list("step", flat=True))
    kept = set(Step.objects.filter(run=run, attempt__gt=0).values_list("key", flat=True))
    assert started == kept


def test_a_claim_and_a_new_plan_that_is_asked_for(submit, worker, otherwise):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b"), echo("c", "a", "b")], goal="do")

        got, *_ = in_parallel(lambda: claim("compute", owner="w"), lambda run=run: otherwise(run))

        assert statuses(run)["a"] == ("running" if got else "blocked")
        check(run)
        if got:
            complete(got, Result(1), claim_next=False)
        assert worker.finish(run).status == "succeeded"
        check(run)


def test_a_completion_that_claims_the_next_and_a_new_plan_that_is_asked_for(submit, worker, otherwise):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b", "a"), echo("c", "b")], goal="do")
        held = claim("compute", owner="w")

        done, _ = in_parallel(lambda one=held: complete(one, Result(1)), lambda run=run: otherwise(run))

        assert statuses(run)["b"] == ("running" if done.next else "blocked")
        check(run)
        if done.next:
            complete(done.next, Result(1), claim_next=False)
        worker.finish(run)
        assert statuses(run).get("c.v0") == "skipped"
        check(run)


def test_the_last_completion_and_a_new_plan_that_is_asked_for(submit, worker, otherwise):
    for _ in range(ROUNDS):
        run = submit([echo("a")], goal="do")
        held = claim("compute", owner="w")

        in_parallel(lambda one=held: complete(one, Result(1)), lambda run=run: otherwise(run))

        assert worker.finish(run).status == "succeeded"
        assert Event.objects.filter(run=run, type="run.succeeded").count() == 1
        check(run)


def test_the_new_plan_and_the_end_of_what_it_builds_on(submit, planner, worker):
    for n in range(ROUNDS):
        planner({"steps": [echo("z", "a", if_failed="null" if n % 2 else "skip"), echo("y")], "answer": "${y}"})
        run = submit([echo("a", on_error="continue")], goal="do")
        held = claim("compute", owner="w")
        _ask(run)

        def end(held=held, n=n):
            if n % 3:
                complete(held, Result(1), claim_next=False)
            else:
                moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

        in_parallel(end, lambda: Worker("p").drain("model"))

        check(run)
        worker.finish(run)
        assert run.status == "succeeded"
        assert run.result in ("y", {"a": None})  # a had failed before the planner looked: nothing to build on
        check(run)


def test_a_failure_and_a_new_plan_that_is_asked_for(submit, worker, planner, policy):
    policy(replan_on_failure=1)
    planner({"steps": [echo("z")]})
    for _ in range(ROUNDS):
        run = submit([{"key": "a", "tool": "test.far"}, echo("b", "a")], goal="do")
        held = claim("network", owner="w")

        def fails(held=held):
            moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

        in_parallel(fails, lambda run=run: _ask(run))

        check(run)
        assert worker.finish(run).status == "succeeded"
        assert run.plan_version == 1
        check(run)


@pytest.mark.parametrize("what", ["resume", "pause", "wake", "ask"])
def test_whatever_moves_steps_and_a_new_plan_that_is_asked_for(submit, worker, otherwise, what):
    for _ in range(ROUNDS):
        soon = datetime.now(UTC) + timedelta(hours=1) if what == "wake" else None
        run = submit([echo("a"), echo("b", "a")], goal="do", start_at=soon)
        if what == "resume":
            control.pause(run)
        if what == "wake":
            sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s", run.pk)
        act = {"resume": control.resume, "pause": control.pause, "ask": otherwise}.get(what, _wake)

        in_parallel(lambda run=run, act=act: act(run), lambda run=run: otherwise(run))

        check(run)
        plans = Step.objects.filter(run=run, kind="plan").count()
        assert plans == 1
        if Run.objects.get(pk=run.pk).status == "paused":
            control.resume(run)
        sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s AND status = 'sleeping'", run.pk)
        assert worker.finish(run).status == "succeeded"
        check(run)


def _wake(_run):
    sweeps.wake_sleepers()


def test_workers_that_drain_while_people_ask_again_and_again(submit, otherwise):
    runs = [submit([echo(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(12)], goal="do") for _ in range(3)]

    in_parallel(
        *[lambda n=n: Worker(f"w{n}").work() for n in range(3)],
        *[lambda run=run: [otherwise(run) for _ in range(3)] for run in runs],
    )

    for run in runs:
        assert Worker("last").finish(run).status == "succeeded"
        check(run)
