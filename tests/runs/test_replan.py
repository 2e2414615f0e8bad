"""A run plans anew: what has not started is held and then superseded, what has started stays."""

from datetime import UTC, datetime, timedelta

import pytest

from agentsys.core.errors import (
    GoalNotPlannable,
    InvalidTransition,
    ModelUnavailable,
    PlanFixed,
    PlanInvalid,
    ToolFailed,
    TooManyPlans,
)
from agentsys.runs import control, services
from agentsys.runs.store import moves
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import photograph, sql
from tests.support.worker import events, statuses


def echo(key, *parents, **fields):
    value = [f"${{{parent}}}" for parent in parents] or key
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def reasons(run):
    return dict(run.steps.exclude(reason="").values_list("key", "reason"))


def of_type(run, type_):
    return list(run.events.filter(type=type_).order_by("seq").values_list("data", flat=True))


CHAIN = [echo("a"), echo("b", "a"), echo("c", "b")]


def test_steps_with_the_longest_keys_are_superseded_too(submit, worker, planner):
    long, longer = "k" * 64, "z" * 64
    planner({"steps": [echo("a")], "answer": "${a}"})
    run = submit([echo(long), echo(longer, long)], goal="do", answer=f"${{{longer}}}")

    control.message(run, "Otherwise, please.", replan=True)

    assert worker.finish(run).result == "a"
    assert statuses(run) == {
        f"{long}.v0": "skipped",
        f"{longer}.v0": "skipped",
        "plan.1": "succeeded",
        "a": "succeeded",
    }


# --- What a person asks for ---------------------------------------------------------------
def test_what_has_not_started_is_held_from_the_moment_another_plan_is_asked_for(submit, worker, planner):
    planner({"steps": [echo("d", "a")]})
    run = submit([*CHAIN, echo("x")], goal="do")
    held = claim("compute", owner="w")

    control.message(run, "Do d.", replan=True)

    assert held.key == "a"
    assert statuses(run) == {"a": "running", "b": "blocked", "c": "blocked", "x": "blocked", "plan.1": "ready"}
    assert complete(held, Result("A")).next is None
    assert claim("compute", owner="w") is None
    assert statuses(run)["b"] == "blocked"
    assert of_type(run, "plan.requested") == [{"why": "message", "held": 3}]
    assert worker.finish(run).result == {"d": ["A"]}


def test_the_new_plan_supersedes_what_had_not_started_and_builds_on_what_had(submit, worker, planner):
    asked = planner({"steps": CHAIN}, {"steps": [echo("b", "a"), echo("z", "b")], "answer": "${z} ${a}"})
    run = submit(goal="do")
    worker.drain("model")
    held = claim("compute", owner="w")
    control.message(run, "Otherwise, please.", replan=True)
    control.resume(control.pause(run))  # neither frees what is held
    assert statuses(run) == {"plan.1": "succeeded", "a": "running", "b": "blocked", "c": "blocked", "plan.2": "ready"}
    worker.drain("model")
    assert statuses(run)["b"] == "blocked"
    complete(held, Result("A"), claim_next=False)

    worker.finish(run)

    assert run.result == '[["A"]] A'
    assert statuses(run) == {
        "plan.1": "succeeded", "plan.2": "succeeded", "a": "succeeded", "b": "succeeded", "z": "succeeded",
        "b.v1": "skipped", "c.v1": "skipped",
    }  # fmt: skip
    assert reasons(run) == {"b.v1": "superseded", "c.v1": "superseded"}
    assert run.steps.get(key="c.v1").depends_on == ["b.v1"]
    assert run.steps.get(key="b.v1").depends_on == ["a"]
    assert run.plan_version == 2
    assert of_type(run, "plan.revised") == [
        {"version": 1, "added": ["a", "b", "c"], "superseded": []},
        {"version": 2, "added": ["b", "z"], "superseded": ["b", "c"]},
    ]
    (_, second) = asked
    assert second["messages"] == ["Otherwise, please."]
    told = second["progress"]
    assert ([s["key"] for s in told.under_way], [s["key"] for s in told.dropped]) == (["a"], ["b", "c"])
    assert (told.asked, told.done, told.failed) == (["Otherwise, please."], [], [])


def test_a_finished_steps_output_is_there_for_the_new_plan(submit, worker, planner):
    asked = planner({"steps": [echo("z", "a")]})
    run = submit([echo("a"), echo("b", "a", tool="test.far")], goal="do")
    worker.drain("compute")
    control.message(run, "Use a.", replan=True)

    assert worker.finish(run).result == {"z": ["a"]}

    assert asked[0]["progress"].done[0]["output"] == '"a"'
    assert asked[0]["max_steps"] == 999
    assert (run.plan_version, statuses(run)["b.v0"]) == (1, "skipped")


def test_a_key_is_free_also_where_what_is_held_is_skipped_before_its_new_plan_is_there(submit, worker, planner):
    """Else the plan that was made meanwhile could not be recorded, again and again."""
    planner({"steps": [echo("b")], "answer": "${b}"})
    run = submit([echo("a", tool="test.fail", arguments={}, on_error="continue"), echo("b", "a")], goal="do")
    held = claim("compute", owner="w")
    control.message(run, "Do b without a.", replan=True)

    moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

    assert statuses(run) == {"a": "failed", "b.v0": "skipped", "plan.1": "ready"}
    assert worker.finish(run).result == "b"
    assert statuses(run)["b"] == "succeeded"


def test_an_answer_alone_ends_a_run_whose_work_is_done(submit, worker, planner):
    planner({"steps": [], "answer": {"a": "${a}"}})
    run = submit([echo("a"), echo("b", "a", tool="test.far")], goal="do")
    worker.drain("compute")
    control.message(run, "That is enough.", replan=True)

    assert (worker.finish(run).result, run.status) == ({"a": "a"}, "succeeded")


@pytest.mark.parametrize(
    ("how", "status"), [({"if_failed": "null"}, "succeeded"), ({}, "skipped")], ids=["null", "skip"]
)
def test_a_step_that_fails_before_the_plan_is_there_is_to_its_new_children_as_to_any(
    submit, worker, planner, how, status
):
    run = submit([echo("a", on_error="continue")], goal="do")
    held = claim("compute", owner="w")
    control.message(run, "Use a.", replan=True)

    def fails():
        moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))
        return {"steps": [echo("z", "a", **how), echo("y", "z"), echo("x")], "answer": "${x}"}

    planner(fails)
    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", "x")
    assert (statuses(run)["z"], statuses(run)["y"]) == (status, status)


def test_what_waits_or_sleeps_after_a_try_stays_and_goes_on(submit, worker, planner, settings):
    settings.RETRY_BASE_S = settings.RETRY_CAP_S = 3600.0
    planner({"steps": [echo("z", "slow", "who")]})
    slow = {"key": "slow", "tool": "test.flaky"}
    run = submit([slow, {"key": "who", "kind": "ask", "objective": "Who?"}, echo("b", "slow")], goal="do")
    worker.work()
    assert statuses(run) == {"slow": "sleeping", "who": "waiting", "b": "blocked"}

    control.message(run, "Then z.", replan=True)
    worker.work()

    assert statuses(run) == {
        "slow": "sleeping", "who": "waiting", "b.v0": "skipped", "plan.1": "succeeded", "z": "blocked",
    }  # fmt: skip
    services.cancel(run)
    assert statuses(run)["b.v0"] == "skipped"


def test_a_key_of_a_step_that_stays_is_a_fault_of_the_plan(submit, worker, planner):
    planner({"steps": [echo("a")]})
    run = submit([echo("a"), {"key": "who", "kind": "ask", "objective": "Who?"}], goal="do")
    worker.work()
    control.message(run, "Again.", replan=True)
    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("paused", "policy")
    error = run.steps.get(key="plan.1").error
    assert [(e["path"], e["code"]) for e in error["data"]["errors"]] == [("steps[0].key", "duplicate_key")]
    control.resume(run)
    services.cancel(run)


# --- A plan that cannot be made ------------------------------------------------------------
def test_a_new_plan_that_cannot_be_made_leaves_the_old_one_and_the_run_held(submit, worker, planner):
    planner(GoalNotPlannable("Cannot."))
    run = submit(CHAIN, goal="do")
    held = claim("compute", owner="w")
    control.message(run, "Fly to the moon.", replan=True)
    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, run.plan_version) == ("paused", "policy", 0)
    assert statuses(run) == {"a": "running", "b": "blocked", "c": "blocked", "plan.1": "failed"}
    complete(held, Result("A"))
    control.resume(run)
    assert worker.finish(run).result == {"c": [["A"]]}


def test_a_planner_that_is_away_is_asked_again_and_nothing_starts_meanwhile(submit, worker, planner, settings):
    settings.RETRY_BASE_S = settings.RETRY_CAP_S = 3600.0
    planner(ModelUnavailable("busy"), {"steps": [echo("z")]})
    run = submit(CHAIN, goal="do")
    control.message(run, "Only z.", replan=True)
    worker.work()
    assert statuses(run) == {"a": "blocked", "b": "blocked", "c": "blocked", "plan.1": "sleeping"}

    sql("UPDATE runs_step SET available_at = now() WHERE key = 'plan.1'")
    assert worker.finish(run).result == {"z": "z"}


# --- Refusals -------------------------------------------------------------------------------
@pytest.mark.parametrize("goal", ["", " \n"])
def test_without_a_goal_there_is_nothing_to_plan_anew(submit, goal):
    run = submit([echo("a")], goal=goal)
    before = photograph()

    with pytest.raises(PlanFixed):
        control.message(run, "Otherwise.", replan=True)

    assert photograph() == before


def test_an_agent_that_runs_only_fixed_plans_does_not_plan(submit, policy):
    policy(mode="fixed")
    run = submit([echo("a")], goal="do")
    before = photograph()

    with pytest.raises(PlanFixed):
        control.message(run, "Otherwise.", replan=True)

    assert photograph() == before


def test_a_run_that_ends_or_has_ended_does_not_plan_anew(submit, worker):
    run = worker.finish(submit([echo("a")], goal="do"))
    before = photograph()

    with pytest.raises(InvalidTransition):
        control.message(run, "Otherwise.", replan=True)

    assert photograph() == before


@pytest.mark.parametrize("bound", ["setting", "definition"])
def test_a_run_plans_only_so_often(submit, worker, planner, policy, settings, bound):
    if bound == "setting":
        settings.RUN_MAX_PLANS = 3
    else:
        policy(max_plans=3)
    planner(*({"steps": [{"key": f"q{n}", "kind": "ask", "objective": "?"}, echo(f"e{n}", f"q{n}")]} for n in range(9)))
    run = submit(goal="do")
    for _ in range(2):
        worker.work()
        control.message(run, "Otherwise.", replan=True)
    worker.work()
    before = photograph()

    with pytest.raises(TooManyPlans):
        control.message(run, "Otherwise.", replan=True)

    assert photograph() == before
    run.refresh_from_db()
    assert run.plan_version == 3
    services.cancel(run)


def test_a_fan_out_beyond_the_bound_is_a_fault_of_the_plan(submit, worker, planner, policy):
    policy(max_fan_out=2)
    planner({"steps": [echo("a"), *(echo(f"b{n}", "a") for n in range(3))]})

    run = worker.finish(submit(goal="do"))

    assert (run.reason, run.error["data"]["errors"][0]["code"]) == ("plan", "too_many_children")


# --- Messages that come while a plan is made ------------------------------------------------
def test_a_message_before_the_planning_begins_needs_no_other_planning(submit, worker, planner):
    asked = planner({"steps": [echo("a")]})
    run = submit(goal="do")

    control.message(run, "One.", replan=True)
    control.message(run, "Two.", replan=True)
    worker.finish(run)

    assert [one["messages"] for one in asked] == [["One.", "Two."]]
    assert statuses(run) == {"plan.1": "succeeded", "a": "succeeded"}


def test_a_message_while_a_plan_is_made_plans_once_more_before_anything_of_it_starts(submit, worker, planner):
    def meanwhile():
        control.message(run, "No, otherwise.", replan=True)
        control.message(run, "And quickly.", replan=True)
        return {"steps": CHAIN}

    asked = planner(meanwhile, {"steps": [echo("z")]})
    run = submit(goal="do")

    worker.finish(run)

    assert [one["messages"] for one in asked] == [[], ["No, otherwise.", "And quickly."]]
    assert run.result == {"z": "z"}
    assert set(reasons(run)) == {"a.v1", "b.v1", "c.v1"}
    assert run.tool_calls == 1


def test_a_message_while_a_new_plan_fails_plans_once_more(submit, worker, planner):
    def meanwhile():
        control.message(run, "Then z.", replan=True)
        return PlanInvalid("no", errors=[])

    planner(meanwhile, {"steps": [echo("z")]})
    run = submit(CHAIN, goal="do")
    control.message(run, "Nonsense.", replan=True)

    assert worker.finish(run).result == {"z": "z"}
    assert [statuses(run)[key] for key in ("plan.1", "plan.2")] == ["failed", "succeeded"]


def test_a_run_that_has_not_begun_still_begins_at_its_time(submit, worker, planner):
    planner({"steps": [echo("z")]})
    run = submit([echo("a")], goal="do", start_at=datetime.now(UTC) + timedelta(hours=1))
    control.message(run, "Only z.", replan=True)
    worker.work(sleepers=True)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("queued", "start_at")
    assert statuses(run) == {"a": "blocked", "plan.1": "sleeping"}

    sql("UPDATE runs_step SET available_at = now() WHERE key = 'plan.1'")
    assert worker.finish(run).result == {"z": "z"}


def test_a_cancel_reaches_a_run_that_plans_anew(submit, worker, planner):
    def meanwhile():
        services.cancel(run)
        return {"steps": [echo("z")]}

    planner(meanwhile)
    run = submit(CHAIN, goal="do")
    control.message(run, "Only z.", replan=True)

    worker.finish(run)

    assert (run.status, statuses(run)) == (
        "cancelled", {"a": "cancelled", "b": "cancelled", "c": "cancelled", "plan.1": "succeeded"},
    )  # fmt: skip


# --- Planning around a failure ---------------------------------------------------------------
FAILING = [echo("a"), {"key": "bad", "tool": "test.fail", "depends_on": ["a"]}, echo("c", "bad")]


def test_a_step_that_fails_for_good_is_planned_around_where_the_agent_does(submit, worker, planner, policy):
    policy(replan_on_failure=1)
    asked = planner({"steps": FAILING}, {"steps": [echo("c", "a")]})

    run = worker.finish(submit(goal="do"))

    assert (run.status, run.result, run.error) == ("succeeded", {"bad": None, "c": ["a"]}, None)
    told = asked[1]["progress"]
    assert [(one["step"]["key"], one["error"]["code"]) for one in told.failed] == [("bad", "tool_failed")]
    assert (told.asked, [step["key"] for step in told.dropped]) == ([], ["c"])
    assert of_type(run, "plan.requested") == [{"why": "failure", "held": 1}]
    assert "run.cancelling" not in events(run)


def test_by_default_and_after_so_many_times_a_failure_ends_the_run(submit, worker, planner, policy):
    policy(replan_on_failure=2)
    planner(*({"steps": [{"key": f"bad{n}", "tool": "test.fail"}]} for n in range(9)))

    run = worker.finish(submit(goal="do"))

    assert (run.status, run.reason, run.error["code"]) == ("failed", "tool", "tool_failed")
    assert (run.plan_version, set(statuses(run))) == (3, {"plan.1", "plan.2", "plan.3", "bad0", "bad1", "bad2"})


def test_when_it_cannot_be_planned_around_the_run_fails_with_what_failed(submit, worker, planner, policy):
    policy(replan_on_failure=3)
    planner({"steps": FAILING}, GoalNotPlannable("There is no other way."))

    run = worker.finish(submit(goal="do"))

    assert (run.status, run.reason, run.error["code"], run.error["message"]) == ("failed", "tool", "tool_failed", "no")
    assert run.error["data"]["replan"]["code"] == "goal_not_plannable"
    assert statuses(run)["c"] == "cancelled"


def test_failures_while_another_plan_is_made_are_planned_around_too(submit, worker, planner, policy):
    policy(replan_on_failure=2)
    run = submit([{"key": "x", "tool": "test.far"}, echo("y"), echo("z", "x")], goal="do")
    held = [claim("network", owner="w"), claim("compute", owner="w")]

    def fail(n):
        moves.fail(held[n], moves.Fault(ToolFailed(f"no {n}"), "tool"))

    def late():
        fail(1)
        return {"steps": [echo("early")]}

    asked = planner(late, {"steps": [echo("w")], "answer": "${w}"})
    fail(0)
    assert statuses(run) == {"x": "failed", "y": "running", "z": "blocked", "plan.1": "ready"}

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", "w")
    assert [[one["step"]["key"] for one in ask["progress"].failed] for ask in asked] == [["x"], ["x", "y"]]
    assert statuses(run)["early.v1"] == "skipped"


def test_a_fixed_plan_without_a_goal_fails_as_ever(submit, worker, policy):
    policy(replan_on_failure=5)

    run = worker.finish(submit([{"key": "bad", "tool": "test.fail"}]))

    assert (run.status, run.reason, statuses(run)) == ("failed", "tool", {"bad": "failed"})


# --- Runs made from such a run ----------------------------------------------------------------
def test_a_retry_keeps_what_the_new_plan_built_on_and_does_nothing_that_it_replaced(submit, worker, planner, policy):
    policy(replan_on_failure=1)
    planner({"steps": FAILING}, {"steps": [echo("d", "a"), {"key": "worse", "tool": "test.fail", "depends_on": ["d"]}]})
    run = worker.finish(submit(goal="do"))
    assert run.status == "failed"

    again, _ = control.retry(run)

    assert statuses(again) == {
        "plan.1": "succeeded", "plan.2": "succeeded", "a": "succeeded", "bad": "failed", "d": "succeeded",
        "worse": "ready",
    }  # fmt: skip
    worker.finish(again)
    assert (again.status, again.plan_version) == ("failed", 2)


def test_a_retry_after_planning_that_came_to_nothing_goes_on_with_the_plan_there_was(submit, worker, planner):
    planner(GoalNotPlannable("Cannot."))
    run = submit(CHAIN, goal="do")
    control.message(run, "Nonsense.", replan=True)
    worker.work()
    services.cancel(run)

    again, _ = control.retry(run)

    assert worker.finish(again).result == {"c": [["a"]]}
    assert set(statuses(again)) == {"a", "b", "c"}


def test_a_retry_names_again_what_was_skipped_while_a_plan_was_awaited(submit, worker):
    """Else what needs it would wait for ever for a step that is not there."""
    steps = [{"key": "bad", "tool": "test.fail", "on_error": "continue"}, echo("b", "bad"), echo("c", "b")]
    run = submit([*steps[:2], steps[2] | {"if_failed": "null"}], goal="do", answer={"c": "${c}"})
    held = claim("compute", owner="w")
    control.message(run, "Otherwise, please.", replan=True)
    moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))
    assert statuses(run)["b.v0"] == "skipped"
    services.cancel(run)

    again, _ = control.retry(run)

    assert statuses(again) == {"bad": "ready", "b": "blocked", "c": "blocked"}
    assert worker.finish(again).result == {"c": [None]}, again.error
    assert statuses(again) == {"bad": "failed", "b": "skipped", "c": "succeeded"}


# --- With the planner that comes along ----------------------------------------------------
def test_the_built_in_planner_takes_the_message_for_the_rest_of_the_goal(submit, worker):
    run = submit(goal='Count the words in "one two three", wait 100 seconds, then compute 2 + 3')
    worker.work()
    assert "sleeping" in statuses(run).values(), run.steps.first().error

    control.message(run, "Compute 20 * 3", replan=True)
    worker.work()
    sql("UPDATE runs_step SET available_at = now() WHERE status = 'sleeping'")
    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", 60), run.error
    assert [step.tool for step in run.steps.filter(reason="superseded")] == ["math.evaluate"]


def test_the_built_in_planner_leaves_out_what_has_failed(submit, worker, policy):
    policy(replan_on_failure=1)
    steps = [{"key": "bad", "tool": "test.fail"}, echo("b", "bad"), echo("c"), echo("d", "c")]
    run = submit(steps, goal="do", answer={"d": "${d}"})
    held = claim("compute", owner="w")
    assert held.key == "bad"
    moves.fail(held, moves.Fault(ToolFailed("no"), "tool"))

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"d": ["c"]})
    assert reasons(run) == dict.fromkeys(("b.v0", "c.v0", "d.v0"), "superseded")


def test_where_all_needs_what_has_failed_the_built_in_planner_says_so(submit, worker, policy):
    policy(replan_on_failure=1)

    run = worker.finish(submit([{"key": "bad", "tool": "test.fail"}, echo("b", "bad")], goal="do"))

    assert (run.status, run.reason, run.error["code"]) == ("failed", "tool", "tool_failed")
    assert "bad" in run.error["data"]["replan"]["message"]
