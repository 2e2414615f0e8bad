"""Limits of steps and of time: used up, a run waits with its work kept, and a raise lets it go on."""

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.agents.plans import parse_plan
from agentsys.core.errors import InvalidInput, InvalidTransition
from agentsys.llm.types import Usage
from agentsys.runs import approvals, budgets, control, forks, handlers, services
from agentsys.runs.forks import Fork
from agentsys.runs.models import Approval, Budget, Run
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def delegate(key="d", *steps, **fields):
    plan = {"steps": list(steps) or [echo("x")]}
    return {"key": key, "kind": "delegate", "arguments": {"plan": plan}, **fields}


@pytest.fixture
def planned(monkeypatch):
    """The planner makes so many steps, and is asked how often it was."""
    asked = []

    def of(count):
        def make_plan(goal, *, tools, max_steps, **how):
            asked.append(goal)
            steps = [echo(f"s{n}") for n in range(count)]
            return parse_plan({"steps": steps}, tools=tools, max_steps=max_steps), Usage(model_calls=1)

        monkeypatch.setattr(handlers.planner, "make_plan", make_plan)
        return asked

    return of


def spent(run):
    row = Budget.objects.get(run=run, kind="steps")
    return row.spent, row.lim


# --- Steps ------------------------------------------------------------------------------
@pytest.mark.promise("P18")
def test_a_plan_that_is_too_large_is_kept_and_goes_on_after_a_raise(submit, worker, step_of, planned):
    asked = planned(5)
    run = submit(goal="do", limits={"steps": 4})

    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("waiting", "budget", {"plan.1": "waiting"})
    assert spent(run) == (0, 4)
    waiting = step_of(run, "plan.1")
    assert (waiting.output, waiting.error["code"]) == ({"steps": [f"s{n}" for n in range(5)]}, "budget_exhausted")
    assert "limit is 4, 0 are spent" in waiting.error["message"]

    control.resume(run, limits={"steps": 5})

    assert worker.finish(run).status == "succeeded"
    assert (len(asked), run.model_calls, run.steps_done, spent(run)) == (1, 1, 6, (5, 5))
    assert events(run)[3:9] == [
        "step.waiting plan.1", "run.waiting", "run.limits_changed", "budget.warning", "step.succeeded plan.1",
        "plan.revised",
    ]  # fmt: skip


def test_a_raise_that_is_too_small_keeps_it_waiting(submit, worker, planned):
    planned(5)
    run = submit(goal="do", limits={"steps": 3})
    worker.work()

    assert control.resume(run, limits={"steps": 4}).status == "waiting"

    assert (statuses(run), spent(run)) == ({"plan.1": "waiting"}, (0, 4))


def test_a_kept_plan_ends_with_its_run(submit, worker, planned):
    planned(5)
    run = submit(goal="do", limits={"steps": 2})
    worker.work()

    services.cancel(run)

    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("cancelled", {"plan.1": "cancelled"})
    assert spent(run) == (0, 2)


def test_steps_that_are_dropped_are_given_back(submit, worker):
    steps = [{"key": "f", "tool": "test.fail", "on_error": "continue"}, echo("a", "${f}"), echo("b", "${a}"), echo("c")]
    run = submit(steps, limits={"steps": 4})
    assert spent(run) == (4, 4)

    worker.finish(run)

    assert (run.status, spent(run)) == ("succeeded", (2, 4))


def test_the_steps_of_a_child_count_on_its_parent(submit, worker):
    run = submit([delegate("d", echo("x"), echo("y")), echo("z", "${d}")], limits={"steps": 4})

    worker.work()
    sweeps.join_children()

    assert worker.finish(run).status == "succeeded"
    assert spent(run) == (4, 4)


def test_a_child_for_which_there_is_no_room_is_not_made_until_there_is(submit, worker, step_of):
    run = submit([delegate("d", echo("x"), echo("y"))], limits={"steps": 2})

    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, step_of(run, "d").reason, spent(run)) == ("waiting", "budget", "budget", (1, 2))
    assert Run.objects.count() == 1
    assert "this needs 2 more" in step_of(run, "d").error["message"]

    control.resume(run, limits={"steps": 3})
    worker.work()
    sweeps.join_children()

    assert worker.finish(run).status == "succeeded"
    assert spent(run) == (3, 3)


def test_a_childs_plan_waits_for_its_parents_limit_and_goes_on_by_itself(submit, worker, planned, step_of):
    planned(3)
    run = submit([{"key": "d", "kind": "delegate", "objective": "do"}], limits={"steps": 3})
    worker.work()
    child = Run.objects.get(parent_run=run)
    assert (child.status, child.reason, spent(run)) == ("waiting", "budget", (1, 3))
    assert f"runs/{run.pk}/resume" in step_of(child, "plan.1").error["message"]

    control.resume(run, limits={"steps": 5})
    sweeps.mind_budgets()
    worker.work()
    sweeps.join_children()

    assert worker.finish(run).status == "succeeded"
    assert spent(run) == (4, 5)


@pytest.mark.promise("P18")
def test_children_side_by_side_never_have_more_steps_than_their_parent(submit, worker):
    steps = [delegate(f"d{n}", echo("x"), echo("y")) for n in range(6)]
    run = submit(steps, limits={"steps": 11})

    in_parallel(*(lambda: worker.drain("system") for _ in range(6)))

    assert Run.objects.filter(parent_run=run).count() == 2
    assert spent(run) == (10, 11)


def test_what_a_new_plan_supersedes_makes_room_for_its_own_steps(submit, worker, planned):
    planned(3)
    run = submit([echo("a"), echo("b", "${a}"), echo("c", "${b}")], goal="do", limits={"steps": 4})
    held = claim("compute", owner="w")
    control.message(run, "Otherwise.", replan=True)

    worker.drain("model")

    assert spent(run) == (4, 4)
    complete(held, Result(1))
    assert worker.finish(run).status == "succeeded"


def test_a_new_plan_that_finds_no_room_waits_and_what_it_replaces_does_too(submit, worker, planned):
    planned(4)
    run = submit([echo("a"), echo("b", "${a}"), echo("c", "${b}")], goal="do", limits={"steps": 4})
    complete(claim("compute", owner="w"), Result(1), claim_next=0)
    control.message(run, "Otherwise.", replan=True)
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason, spent(run)) == ("waiting", "budget", (3, 4))
    assert statuses(run) == {"a": "succeeded", "b": "blocked", "c": "blocked", "plan.1": "waiting"}

    control.resume(run, limits={"steps": 5})

    assert worker.finish(run).status == "succeeded"
    assert spent(run) == (5, 5)


def test_a_fork_has_its_origins_limits_and_has_used_nothing_of_them(submit, worker):
    run = worker.finish(submit([echo("a"), echo("b")], limits={"steps": 2}))

    again, _ = forks.fork(run, Fork(from_step="a"))

    assert (again.limits, spent(again)) == ({"steps": 2}, (1, 2))


# --- Time -------------------------------------------------------------------------------
def use_up(run):
    """The run started so long ago that its time is used up."""
    sql("UPDATE runs_run SET started_at = started_at - interval '1 hour', time_up_at = time_up_at - interval '1 hour'"
        " WHERE id = %s", run.pk)  # fmt: skip


def test_when_its_time_is_used_up_what_runs_ends_and_nothing_starts(submit, worker):
    run = submit([echo("a"), echo("b", "${a}"), echo("c")], limits={"time_s": 60})
    held = claim("compute", owner="w")
    use_up(run)

    sweeps.mind_budgets()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "budget")
    assert worker.work() == 0
    assert complete(held, Result("done"), claim_next=1).next is None
    assert statuses(run) == {"a": "succeeded", "b": "queued", "c": "queued"}
    assert worker.work() == 0
    assert sweeps.repair_stuck() == 0
    run.refresh_from_db()
    assert (run.status, run.steps_done) == ("waiting", 1)

    control.resume(run, limits={"time_s": 120})

    assert worker.finish(run).status == "succeeded"
    assert events(run).count("run.waiting") == 1


def test_the_time_counts_from_the_runs_start(submit, worker):
    run = submit([echo("a")], limits={"time_s": 60})
    sql("UPDATE runs_run SET time_up_at = time_up_at - interval '1 hour' WHERE id = %s", run.pk)

    sweeps.mind_budgets()

    run.refresh_from_db()
    assert (run.status, run.held_at) == ("queued", None)
    assert worker.finish(run).status == "succeeded"


def test_the_last_step_of_a_run_out_of_time_still_ends_it(submit):
    run = submit([echo("a")], limits={"time_s": 60})
    held = claim("compute", owner="w")
    use_up(run)
    sweeps.mind_budgets()

    complete(held, Result("done"))

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"a": "done"})


def test_sleepers_retries_and_answers_of_a_run_out_of_time_wait_too(submit, worker):
    steps = [{"key": "w", "kind": "wait", "arguments": {"seconds": 0}}, {"key": "q", "kind": "ask", "objective": "?"},
             echo("e", "${q}")]  # fmt: skip
    run = submit(steps, limits={"time_s": 60})
    worker.work()
    use_up(run)
    sweeps.mind_budgets()

    sweeps.wake_sleepers()
    approvals.answer(approvals.get(run.workspace_id, Approval.objects.get().pk), user=None, answer="this")

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == (
        "waiting", "budget", {"w": "queued", "q": "succeeded", "e": "queued"},
    )  # fmt: skip
    control.resume(run, limits={"time_s": 90})
    assert worker.finish(run).status == "succeeded"


def test_a_raise_gives_as_much_more_time_as_the_limit_grows(submit, worker):
    run = submit([echo("a"), echo("b")], limits={"time_s": 60})
    claim("compute", owner="w")
    use_up(run)
    sweeps.mind_budgets()

    control.resume(run, limits={"time_s": 160})

    run.refresh_from_db()
    (line,) = budgets.of_run(run)
    assert (line.kind, line.limit, 59 < line.spent < 62) == ("time_s", 160, True)
    assert run.status == "running"


@pytest.mark.parametrize("value", [60, 10, 0.5])
def test_a_raise_of_time_that_gives_none_is_refused(submit, value):
    run = submit([echo("a"), echo("b")], limits={"time_s": 60})
    claim("compute", owner="w")
    use_up(run)
    sweeps.mind_budgets()
    before = photograph()

    with pytest.raises(InvalidInput):
        control.resume(run, limits={"time_s": value})
    with pytest.raises(InvalidTransition):
        control.resume(run)

    assert photograph() == before


def test_a_paused_run_whose_time_is_used_up_waits_for_both(submit, worker):
    run = submit([echo("a"), echo("b", "${a}")], limits={"time_s": 60})
    held = claim("compute", owner="w")
    control.pause(run)
    use_up(run)
    sweeps.mind_budgets()
    complete(held, Result(1))

    run.refresh_from_db()
    assert run.status == "paused"
    control.resume(run)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "budget")
    assert worker.work() == 0
    control.resume(run, limits={"time_s": 100})
    assert worker.finish(run).status == "succeeded"


def test_a_cancel_ends_a_run_out_of_time(submit):
    run = submit([echo("a"), echo("b")], limits={"time_s": 60})
    held = claim("compute", owner="w")
    use_up(run)
    sweeps.mind_budgets()

    services.cancel(run)
    moves.fail(held, moves.Fault(InvalidInput("no"), "tool"))

    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_child_is_held_with_its_parent_and_goes_on_with_it(submit, worker):
    run = submit([delegate("d", echo("x"), echo("y", "${x}"))], limits={"time_s": 60})
    worker.drain("system")
    child = Run.objects.get(parent_run=run)
    held = claim("compute", owner="w")
    use_up(run)
    for _ in range(2):
        sweeps.mind_budgets()

    complete(held, Result(1))
    child.refresh_from_db()
    assert (child.status, child.reason, statuses(child)) == ("waiting", "budget", {"x": "succeeded", "y": "queued"})
    assert worker.work() == 0

    control.resume(run, limits={"time_s": 600})
    sweeps.mind_budgets()
    worker.work()
    sweeps.join_children()

    assert worker.finish(run).status == "succeeded"


def test_a_child_that_has_not_started_is_held_too(submit, worker):
    run = submit([delegate("d")], limits={"time_s": 60})
    worker.drain("system")
    child = Run.objects.get(parent_run=run)
    use_up(run)
    for _ in range(2):
        sweeps.mind_budgets()

    child.refresh_from_db()
    assert (child.status, child.reason, worker.work()) == ("queued", "budget", 0)
    control.resume(run, limits={"time_s": 600})
    sweeps.mind_budgets()
    worker.work()
    sweeps.join_children()

    assert worker.finish(run).status == "succeeded"


def test_a_submission_narrows_its_agents_limits_and_never_widens_them(submit, worker, agent):
    limits = {"steps": 5, "tokens": 100, "cost_usd": 1.5, "time_s": 9}
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, limits=limits
    )
    agent.save()

    run = submit([echo("a")], limits={"steps": 9, "tokens": 50, "cost_usd": 2.5})

    assert run.limits == {"steps": 5, "tokens": 50, "cost_usd": 1.5, "time_s": 9}
    assert dict(run.budgets.values_list("kind", "lim")) == {"steps": 5, "tokens": 50, "cost_micros": 1_500_000}
    worker.finish(run)
