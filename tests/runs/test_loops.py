"""The same call again and again, with the same end: a run that learns nothing is stopped, and says by what."""

import pytest

from agentsys.core.errors import LoopDetected
from agentsys.runs import control, loops, recorded
from tests.support.worker import statuses


def failing(key, message="no", **fields):
    return {"key": key, "tool": "test.fail", "arguments": {"message": message}, **fields}


def echo(key, value, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def in_turn(steps):
    """Each after the one before."""
    before = [{}, *({"depends_on": [step["key"]]} for step in steps)]
    return [{**step, **first} for step, first in zip(steps, before, strict=False)]


@pytest.fixture
def anew(submit, policy, planner, worker):
    """A run whose first plan fails, and whose next plans are these."""

    def run_with(*plans, **terms):
        policy(replan_on_failure=15, max_plans=20, **terms)
        planner({"steps": [failing("first", "of another kind")]}, *plans)
        return worker.finish(submit(goal="do"))

    return run_with


def test_a_call_that_failed_as_often_as_it_may_is_not_planned_again(anew):
    run = anew(*({"steps": [failing(f"try{n}")]} for n in range(9)))

    assert (run.status, run.reason, run.error["code"]) == ("failed", "policy", "loop_detected")
    assert run.error["data"] == {
        "tool": "test.fail", "digest": recorded.digest({"message": "no"}), "times": 3,
        "steps": ["try2", "try1", "try0"], "outcome": "tool_failed",
    }  # fmt: skip
    assert statuses(run)["plan.5"] == "failed"
    assert "try3" not in statuses(run)


@pytest.mark.parametrize("bound", ["setting", "definition"])
def test_how_often_it_may_is_bounded(anew, settings, bound):
    settings.RUN_MAX_REPEATS = 2 if bound == "setting" else 9
    terms = {} if bound == "setting" else {"max_repeats": 2}

    run = anew(*({"steps": [failing(f"try{n}")]} for n in range(9)), **terms)

    assert (run.error["code"], run.error["data"]["times"]) == ("loop_detected", 2)


def test_a_call_whose_arguments_come_out_the_same_is_stopped_before_it_is_made(anew):
    polls = [echo("p0", "x"), *(echo(f"p{n}", f"${{p{n - 1}}}", on_error="continue") for n in range(1, 6))]

    run = anew({"steps": polls})

    assert (run.status, run.reason, run.error["code"]) == ("failed", "policy", "loop_detected")
    assert run.error["data"]["steps"] == ["p2", "p1", "p0"]
    assert (statuses(run)["p3"], statuses(run)["p4"]) == ("failed", "cancelled")
    assert run.tool_calls == 3


def test_other_arguments_or_another_end_is_no_loop(anew):
    now = in_turn([{"key": f"t{n}", "tool": "test.tick"} for n in range(6)])
    counted = in_turn([echo(f"c{n}", n) for n in range(6)])

    run = anew({"steps": [*now, *counted], "answer": "${c5}"})

    assert (run.status, run.result) == ("succeeded", 5), run.error


def test_what_ended_otherwise_in_between_begins_the_count_anew(submit, worker, policy, planner):
    def same(n):
        return {"steps": [failing(f"try{n}", "a" if n % 3 else "b")]}

    policy(replan_on_failure=6, max_plans=20)
    planner(*(same(n) for n in range(12)))

    run = worker.finish(submit(goal="do"))

    assert run.error["code"] == "loop_detected"  # three of "a", for a call with "b" is another call
    assert run.error["data"]["times"] == 3


def test_repetitions_within_the_first_plan_are_meant(submit, worker, planner, agent):
    same = in_turn([echo(f"s{n}", "again") for n in range(6)])
    assert worker.finish(submit(same)).status == "succeeded"

    planner({"steps": same})
    assert worker.finish(submit(goal="do")).status == "succeeded"


def test_what_a_person_says_is_news(submit, worker, policy, planner):
    ask = {"key": "who", "kind": "ask", "objective": "Who?"}
    policy(max_plans=20)
    planner(*({"steps": [failing(f"try{n}", on_error="continue"), {**ask, "key": f"who{n}"}]} for n in range(9)))
    run = submit(goal="do")
    for _ in range(5):
        worker.work()
        control.message(run, "Try again.", replan=True)
    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "input")


def test_the_question_can_be_asked_of_any_call(submit, worker):
    run = worker.finish(submit([*in_turn([echo(f"s{n}", "again") for n in range(3)]), echo("other", 1)]))

    with pytest.raises(LoopDetected):
        loops.check(run.pk, "test.echo", {"value": "again"})
    loops.check(run.pk, "test.echo", {"value": "other"})
    loops.check(run.pk, "test.far", {"value": "again"})
