"""What a run may use, by the agent version that it pins and its own limits."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from agentsys.agents import approvals
from agentsys.agents.models import AgentVersion
from agentsys.tools import registry
from agentsys.tools.registry import ToolSpec

from .models import Run


def allowed_tools(version: AgentVersion) -> dict[str, ToolSpec]:
    """The tools an agent version may use; an empty list allows all.  Those it wants approved say so."""
    tools = registry.all_tools()
    allowed = {name: spec for name, spec in tools.items() if not version.tools or name in version.tools}
    return approvals.needing(allowed, version.approvals) if version.approvals else allowed


def model_of(run: Run) -> str:
    """The run's own model, else its version's, else the installation's."""
    return run.model or run.agent_version.model or settings.MODEL


def max_steps(limits: Mapping[str, Any]) -> int:
    """How many steps a plan of this run may have."""
    return int(min(settings.RUN_MAX_STEPS, limits.get("steps", settings.RUN_MAX_STEPS)))


def max_fan_out(version: AgentVersion) -> int:
    """How many steps of a plan that a model makes may wait for one."""
    return int(version.planning.get("max_fan_out", settings.PLAN_MAX_FAN_OUT))


def max_turns(version: AgentVersion) -> int:
    """How many times a step that acts may call."""
    return int(version.planning.get("max_turns", settings.ACT_MAX_TURNS))


def tighter(agents: Mapping[str, float], asked: Mapping[str, float]) -> dict[str, float]:
    """A submission may narrow its agent's limits, and never widen them."""
    return {**asked, **{name: min(most, asked.get(name, most)) for name, most in agents.items()}}
