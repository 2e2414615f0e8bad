"""Which tools may be given values from where without a person's word: ``approvals.trust`` of an agent's version.

``{tool: [source, …]}``; ``"*"`` stands for all tools that are not named.  It is asked about calls that cannot be taken
back or repeated (``unsafe``, ``verifiable``); what is not listed there needs an approval.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agentsys.core.faults import Fault, fault

#: Who uses the agent; who has made it; a tool; what anybody may have written (a page); a server's tool; a model.
USER, OPERATOR, TOOL, WEB, MCP, MODEL = SOURCES = ("user", "operator", "tool", "web", "mcp", "model")
#: What is trusted where nothing is said: whatever no stranger has written.
DEFAULT = frozenset(SOURCES) - {WEB, MCP}
ANY = "*"


def allowed(approvals: Mapping[str, Any], tool: str) -> frozenset[str]:
    """The sources whose values a tool may be given as they are."""
    terms = approvals.get("trust") or {}
    listed = terms.get(tool, terms.get(ANY))
    return DEFAULT if listed is None else frozenset(listed)


def faults(terms: Any, *, known: Collection[str], path: str) -> Iterator[Fault]:
    """What is wrong with these terms."""
    if not isinstance(terms, dict):
        yield fault(path, "type", "trust must be an object of tools and lists of sources.")
        return
    for name, listed in terms.items():
        where = f"{path}.{name[:100]}"
        if name != ANY and name not in known:
            nearest = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield fault(where, "unknown_tool", f"There is no tool named {name[:100]!r}.{hint}")
        if not isinstance(listed, list):
            yield fault(where, "type", "Must be a list of sources.")
        elif unknown := [one for one in listed if one not in SOURCES]:
            yield fault(where, "bad_value", f"{str(unknown[0])[:50]!r} is no source; there are {', '.join(SOURCES)}.")
