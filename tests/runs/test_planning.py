"""A run with a goal: its planning step becomes more steps, once, whatever happens to the planner."""

from decimal import Decimal

import pytest

from agentsys.agents.plans import parse_plan
from agentsys.agents.prompts import Prompts
from agentsys.core.errors import (
    AgentSysError,
    GoalNotPlannable,
    ModelFailed,
    ModelUnavailable,
    PlanInvalid,
)
from agentsys.llm.types import Usage
from agentsys.runs import handlers, services
from agentsys.runs.store import moves
from agentsys.runs.store.claims import claim
from tests.support.worker import events, statuses

USAGE = Usage(input_tokens=11, output_tokens=7, cost_usd=Decimal("0.25"), model_calls=1)
STEPS = [
    {"key": "a", "tool": "test.echo", "arguments": {"value": "${goal} ${input.x}"}},
    {"key": "b", "tool": "test.echo", "arguments": {"value": ["${a}", "${files.f}"]}},
]


@pytest.fixture
def planner(monkeypatch):
    """Plans what it is told to; an error is raised instead, a list is one answer a call."""
    asked = []

    def answer_with(*answers):
        def make_plan(goal, *, tools, max_steps, **how):
            asked.append({"goal": goal, "tools": tools, "max_steps": max_steps, **how})
            answer = answers[min(len(asked), len(answers)) - 1]
            if isinstance(answer, Exception):
                raise answer
            return parse_plan(answer, tools=tools, max_steps=max_steps), USAGE

        monkeypatch.setattr(handlers.planner, "make_plan", make_plan)
        return asked

    return answer_with


def test_the_plan_becomes_the_runs_steps(submit, worker, planner):
    planner({"steps": STEPS, "answer": {"all": "${b}"}})
    run = submit(goal="do", input={"x": 1}, files={"f": b"text"})
    assert statuses(run) == {"plan.1": "ready"}

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"all": ["do 1", "text"]})
    assert events(run) == [
        "run.queued", "run.running", "step.started plan.1", "step.succeeded plan.1", "plan.revised", "step.started a",
        "step.succeeded a", "step.started b", "step.succeeded b", "run.succeeded",
    ]  # fmt: skip
    assert (run.plan_version, run.steps_done, run.tool_calls) == (1, 3, 2)
    assert (run.input_tokens, run.output_tokens, run.model_calls, run.cost_usd) == (11, 7, 1, Decimal("0.25"))


def test_without_an_answer_the_planning_step_is_not_in_the_result(submit, worker, planner):
    planner({"steps": STEPS[:1]})

    assert worker.finish(submit(goal="do", input={"x": 1})).result == {"a": "do 1"}


def test_the_planner_gets_what_the_run_and_its_agent_allow(submit, worker, planner, agent):
    agent.current_version = type(agent.current_version).objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, tools=["test.echo"], instructions="be brief",
        limits={"steps": 7}, model="offline",
    )  # fmt: skip
    agent.save()
    asked = planner({"steps": STEPS})

    worker.finish(submit(goal="do", input={"x": 1}, files={"f": b""}, limits={"steps": 5}))

    (one,) = asked
    assert (set(one["tools"]), one["max_steps"], one["prompts"]) == ({"test.echo"}, 1000, Prompts("be brief"))
    assert (one["files"], one["input"], one["model"]) == (["f"], {"x": 1}, "offline")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GoalNotPlannable("I cannot plan 'fly to the moon'."), "plan"),
        (PlanInvalid("no", errors=[]), "plan"),
        (ModelFailed("no"), "model"),
        (AgentSysError(), "model"),
        (KeyError("bug"), "model"),
    ],
)
def test_a_goal_that_cannot_be_planned_fails_the_run_and_says_why(submit, worker, planner, error, reason):
    planner(error)

    run = worker.finish(submit(goal="do"))

    assert (run.status, run.reason, statuses(run)) == ("failed", reason, {"plan.1": "failed"})
    assert run.error["message"] == (getattr(error, "message", None) or "Unexpected system error.")


def test_a_model_that_is_away_is_asked_again(submit, worker, planner):
    asked = planner(ModelUnavailable("busy"), ModelUnavailable("busy"), {"steps": STEPS})

    run = worker.finish(submit(goal="do"))

    assert (run.status, len(asked), run.model_calls) == ("succeeded", 3, 1)


def test_a_plan_that_comes_after_the_cancel_opens_nothing(submit, worker, planner, monkeypatch):
    planner({"steps": STEPS})
    run = submit(goal="do")
    real = handlers.HANDLERS["plan"]

    def cancelled_meanwhile(held):
        outcome = real(held)
        services.cancel(run)
        return outcome

    monkeypatch.setitem(handlers.HANDLERS, "plan", cancelled_meanwhile)
    worker.drain("model")

    run.refresh_from_db()
    assert (run.status, statuses(run), run.model_calls) == ("cancelled", {"plan.1": "succeeded"}, 1)


@pytest.mark.promise("P6")
def test_a_planner_that_dies_plans_again_and_only_one_plan_counts(submit, worker, planner):
    planner({"steps": STEPS})
    run = submit(goal="do", input={"x": 1}, files={"f": b""})
    stale = claim("model", owner="gone")
    moves.give_back(stale.id, run.pk, stale.claim_token, why="dead")

    worker.finish(run)

    assert (run.status, len(statuses(run)), run.model_calls) == ("succeeded", 3, 1)


def test_a_goal_in_words_is_planned_and_done_by_the_built_in_planner(submit, worker):
    run = worker.finish(submit(goal='Count the words of "one two three two".'))

    assert run.status == "succeeded", run.error
    assert "4" in str(run.result)
