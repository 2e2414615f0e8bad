"""From a goal to a valid plan, by whichever model the agent uses."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentsys.llm.types import Usage


def make_plan(
    goal: str,
    *,
    model: str,
    tools: Mapping[str, Any],
    input: Any,
    files: Sequence[str],
    instructions: str,
    max_steps: int,
    timeout_s: float,
) -> tuple[Any, Usage]:
    """Plan ``goal`` with ``tools``; the plan is validated exactly as a submitted one.

    Raises:
        GoalNotPlannable: ``message`` names the part of the goal that no tool can do.
        ModelFailed: the model's plans stayed invalid, or the model refused.
        ModelUnavailable: trying again later may help.
    """
    raise NotImplementedError
