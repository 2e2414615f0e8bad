"""Every test of the engine ends with the invariants checked."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentsys.agents.models import Agent, AgentVersion
from agentsys.agents.plans import parse_plan
from agentsys.llm.types import Usage
from agentsys.runs import handlers, verify


@pytest.fixture(autouse=True)
def _verified(transactional_db: None, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.node.get_closest_marker("violates"):
        assert [f for f in verify.check() if f.violations] == []


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Plans what it is told to, checked as a model's plan is; an error is raised, a function called first.

    Gives what was asked, one after the other; the last answer stands for all that follow.
    """
    asked: list[dict[str, Any]] = []

    def answer_with(*answers: Any) -> list[dict[str, Any]]:
        def make_plan(goal: str, *, tools: Any, max_steps: int, max_fan_out: int, progress: Any, **how: Any) -> Any:
            asked.append({"goal": goal, "progress": progress, "max_steps": max_steps, **how})
            answer = answers[min(len(asked), len(answers)) - 1]
            answer = answer() if callable(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            bounds = {"max_steps": max_steps, "max_fan_out": max_fan_out}
            standing = {} if progress is None else {"standing": progress.standing()}
            return parse_plan(answer, tools=tools, **bounds, **standing), Usage(model_calls=1)

        monkeypatch.setattr(handlers.planner, "make_plan", make_plan)
        return asked

    return answer_with


@pytest.fixture
def policy(agent: Agent) -> Callable[..., None]:
    """Give the agent a version with these terms of planning."""

    def give(mode: str = "plan", **planning: Any) -> None:
        agent.current_version = AgentVersion.objects.create(
            workspace_id=agent.workspace_id, agent=agent, number=2, mode=mode, planning=planning
        )
        agent.save()

    return give
