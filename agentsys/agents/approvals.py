"""What an agent version wants a person to approve: ``{tools, expires_s, on_denied, trust}``, each optional."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agentsys.agents import trust
from agentsys.agents.plan_fields import MAX_WAIT_S
from agentsys.core.faults import Fault, fault

#: In place of a list of tools.
ALL = "all"
#: What a denial does: the step fails, or succeeds with the denial as its output.
ON_DENIED = ("fail", "result")
_FIELDS = ("tools", "expires_s", "on_denied", "trust")


def wanted(tool: str, terms: Mapping[str, Any]) -> bool:
    """Whether a version with these terms wants the calls of a tool approved."""
    listed = terms.get("tools") or ()
    return listed == ALL or tool in listed


def faults(terms: Any, *, known: Collection[str], path: str = "approvals") -> Iterator[Fault]:
    """What is wrong with an agent version's terms."""
    if not isinstance(terms, dict):
        yield fault(path, "type", "approvals must be an object.")
        return
    for name in terms.keys() - set(_FIELDS):
        yield fault(f"{path}.{name[:50]}", "unknown_field", f"There is no such field; there are {', '.join(_FIELDS)}.")
    yield from _tools_faults(terms.get("tools", []), f"{path}.tools", known)
    if "expires_s" in terms:
        yield from _expiry_faults(terms["expires_s"], f"{path}.expires_s")
    if terms.get("on_denied", "fail") not in ON_DENIED:
        yield fault(f"{path}.on_denied", "bad_value", f"on_denied must be {' or '.join(ON_DENIED)}.")
    yield from trust.faults(terms.get("trust", {}), known=known, path=f"{path}.trust")


def _tools_faults(tools: Any, path: str, known: Collection[str]) -> Iterator[Fault]:
    if tools == ALL:
        return
    if not isinstance(tools, list) or not all(isinstance(name, str) for name in tools):
        yield fault(path, "type", f'tools must be a list of names, or "{ALL}".')
        return
    for number, name in enumerate(tools):
        if name in tools[:number]:
            yield fault(f"{path}[{number}]", "duplicate", f"{name} is listed twice.")
        elif name not in known:
            nearest = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield fault(f"{path}[{number}]", "unknown_tool", f"There is no tool named {name[:100]!r}.{hint}")


def _expiry_faults(seconds: Any, path: str) -> Iterator[Fault]:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        yield fault(path, "type", "Must be a number of seconds.")
    elif not 0 < seconds <= MAX_WAIT_S:
        yield fault(path, "bad_value", f"Must be above 0 and at most {MAX_WAIT_S:,}.")
