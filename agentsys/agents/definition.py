"""What a version of an agent says, checked before it becomes one."""

import difflib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from agentsys.agents import approvals as approval_terms
from agentsys.agents import planning as planning_terms
from agentsys.agents.models import AgentVersion, Mode
from agentsys.core import schemas
from agentsys.core.errors import InvalidInput, ModelFailed
from agentsys.core.faults import Fault, fault
from agentsys.llm import client
from agentsys.tools.mcp import catalogue

#: Limit -> (greatest value, whole numbers only).  All are budgets but ``parallel``: how many steps at a time.
LIMITS: dict[str, tuple[int, bool]] = {
    "steps": (1_000, True),
    "tokens": (1_000_000_000_000, True),
    "cost_usd": (1_000_000, False),
    "time_s": (31_536_000, False),
    "parallel": (1_000, True),
}
#: What a budget of dollars counts in; a limit below it would be one of nothing.
_LEAST_USD = 0.000001
MAX_FALLBACKS = 5


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The content of a version; empty ``tools`` means all, empty ``model`` the installation's."""

    mode: str = Mode.PLAN
    model: str = ""
    fallback_models: list[str] = field(default_factory=list)
    instructions: str = ""
    tools: list[str] = field(default_factory=list)
    output_schema: dict[str, Any] | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    approvals: dict[str, Any] = field(default_factory=dict)
    planning: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, version: AgentVersion, **changes: Any) -> "Definition":
        """What a version says, with ``changes`` to it."""
        return cls(**{name: getattr(version, name) for name in FIELDS} | changes)

    def check(self, workspace_id: UUID) -> None:
        """
        Raises:
            InvalidInput: with ``errors``, every fault as ``{path, code, message}``.
        """
        known = catalogue.known(self._named(), workspace_id)
        faults = [
            *_mode_faults(self.mode),
            *model_faults(self.model),
            *_fallback_faults(self.fallback_models),
            *_tool_faults(self.tools, known),
            *schemas.faults(self.output_schema),
            *limit_faults(self.limits),
            *approval_terms.faults(self.approvals, known=known),
            *planning_terms.faults(self.planning),
        ]
        if faults:
            raise InvalidInput("The agent is not valid; see errors.", errors=faults)

    def _named(self) -> list[str]:
        """The tools that it speaks of."""
        terms = self.approvals if isinstance(self.approvals, dict) else {}
        listed, trusted = terms.get("tools"), terms.get("trust")
        more = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        return [*self.tools, *more, *(trusted if isinstance(trusted, dict) else ())]


#: What a definition consists of, in the order in which it is told.
FIELDS = tuple(each.name for each in fields(Definition))


def _mode_faults(mode: str) -> Iterator[Fault]:
    if mode not in Mode.values:
        yield fault("mode", "bad_value", "mode must be plan, react or fixed.")


def model_faults(model: str, *, path: str = "model") -> Iterator[Fault]:
    """A model string that no provider could be found for; empty is fine."""
    if not model or model == client.OFFLINE:
        return
    try:
        client.split(model)
    except ModelFailed as error:
        yield fault(path, "bad_value", error.message)


def _fallback_faults(models: list[str]) -> Iterator[Fault]:
    if len(models) > MAX_FALLBACKS:
        yield fault("fallback_models", "bad_value", f"There may be {MAX_FALLBACKS} fallback models.")
    for number, model in enumerate(models):
        path = f"fallback_models[{number}]"
        if not model.strip():
            yield fault(path, "bad_value", "A model has a name.")
        elif model in models[:number]:
            yield fault(path, "duplicate", f"{model} is listed twice.")
        yield from model_faults(model, path=path)


def _tool_faults(tools: list[str], known: Collection[str]) -> Iterator[Fault]:
    for number, name in enumerate(tools):
        if name in tools[:number]:
            yield fault(f"tools[{number}]", "duplicate", f"{name} is listed twice.")
        elif name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield fault(f"tools[{number}]", "unknown_tool", f"There is no tool named {name!r}.{hint}")


def limit_faults(limits: Any, *, path: str = "limits") -> Iterator[Fault]:
    """What is wrong with ``{steps, tokens, cost_usd, time_s, parallel}``, each optional."""
    if not isinstance(limits, dict):
        yield fault(path, "type", "limits must be an object.")
        return
    for name, value in limits.items():
        where = f"{path}.{name}"
        if name not in LIMITS:
            yield fault(where, "unknown_field", f"There is no such limit; there are {', '.join(LIMITS)}.")
            continue
        greatest, whole = LIMITS[name]
        if not _is_number(value) or (whole and not isinstance(value, int)):
            yield fault(where, "type", "Must be a whole number." if whole else "Must be a number.")
        elif not 0 < value <= greatest:
            yield fault(where, "bad_value", f"Must be above 0 and at most {greatest:,}.")
        elif name == "cost_usd" and value < _LEAST_USD:
            yield fault(where, "bad_value", f"Must be at least {_LEAST_USD:f}.")


def _is_number(value: Any) -> bool:
    """A whole number of any length is one: math.isfinite would make a float of it first."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
