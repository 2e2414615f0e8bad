"""What a run may use, by the agent version that it pins and its own limits."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from django.conf import settings

from agentsys.agents import approvals
from agentsys.agents.models import AgentVersion
from agentsys.agents.prompts import Prompts
from agentsys.tools import registry
from agentsys.tools.mcp import catalogue
from agentsys.tools.registry import ToolSpec

from .models import Run


class AllowedTools(Mapping[str, ToolSpec]):
    """The tools an agent version may use; an empty list allows all.  Those it wants approved say so.

    Those of the workspace's own servers cost a query, made only when one is asked for that the registry has not,
    or when all are.
    """

    def __init__(self, version: AgentVersion) -> None:
        self._version = version
        self._builtin = registry.all_tools()

    def __getitem__(self, name: str) -> ToolSpec:
        if not self._allows(name):
            raise KeyError(name)
        return self._as_called(self._builtin[name] if name in self._builtin else self._own[name])

    def __iter__(self) -> Iterator[str]:
        return (name for name in {**self._builtin, **self._own} if self._allows(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _own(self) -> dict[str, ToolSpec]:
        listed = self._version.tools
        if listed and all(name in self._builtin for name in listed):
            return {}
        return catalogue.own(self._version.workspace_id)

    def _allows(self, name: str) -> bool:
        return not self._version.tools or name in self._version.tools

    def _as_called(self, spec: ToolSpec) -> ToolSpec:
        return replace(spec, approval=True) if approvals.wanted(spec.name, self._version.approvals) else spec


def allowed_tools(version: AgentVersion) -> AllowedTools:
    """The tools an agent version may use, by name."""
    return AllowedTools(version)


def model_of(run: Run) -> str:
    """The run's own model, else its version's, else the installation's."""
    return run.model or run.agent_version.model or settings.MODEL


def fallbacks_of(run: Run) -> list[str]:
    """The models that are asked when that one cannot answer; none where the run itself has named its model."""
    return [] if run.model else list(run.agent_version.fallback_models)


def prompts_of(version: AgentVersion) -> Prompts:
    """What its model is told beside the task."""
    return Prompts(version.instructions, version.prompts)


def cache_s(version: AgentVersion) -> float:
    """How old an answer to the very same question may be to be taken again, in seconds; 0: none is."""
    return float(version.planning.get("cache_s", 0))


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
