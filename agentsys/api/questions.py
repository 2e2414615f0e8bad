"""What may be asked: a name in the query string that nobody reads is a mistake, and said to be one, at every address.

A filter with a typing error would otherwise be no filter, and the list look like an answer; and what belongs into a
body would be lost.
"""

import difflib
from collections.abc import Collection
from typing import Any

from rest_framework.request import Request

from agentsys.core.errors import InvalidInput

CODE = "unknown_parameter"
#: DRF's own: another way to say Accept.
ALWAYS = frozenset({"format"})
MAX_FAULTS = 100


def known_to(view: Any) -> set[str]:
    """The names that a list reads: its filters', its pages', and those it says itself (``parameters``); nothing else
    reads any."""
    if view.action != "list":
        return set()
    filters = view.filterset_class.base_filters if getattr(view, "filterset_class", None) else ()
    pages = ("cursor", "limit") if view.pagination_class is not None else ()
    return {*filters, *pages, *view.parameters}


def check(request: Request, known: Collection[str]) -> None:
    """
    Raises:
        InvalidInput: ``errors`` has one fault for each name that nobody reads.
    """
    unknown = [name for name in request.query_params if name not in known and name not in ALWAYS]
    if unknown:
        faults = [_fault(name[:80], sorted(known)) for name in unknown[:MAX_FAULTS]]
        raise InvalidInput(f"{faults[0]['path']}: {faults[0]['message']}", errors=faults)


def _fault(name: str, known: list[str]) -> dict[str, str]:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    there_are = f"There are {', '.join(known)}." if known else "There are none."
    return {"path": name, "code": CODE, "message": f"No such parameter is read here.{hint} {there_are}"}
