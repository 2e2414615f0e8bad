"""A run's events for those who read them: from PostgreSQL, after a seq; hub.py reads for those who follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from uuid import UUID

from agentsys.core import db

from .models import Event, Run
from .states import RUN_FINAL
from .store.sql import SQL

MAX_BATCH = 500
#: A look reads about so many events, shared between those whom it reads for; but so many for each at least.
MAX_READ, LEAST_READ = 4_000, 8
#: At most so many for one of them, which is what a reader that does not read makes us keep.
MAX_EACH = 200

#: A run, and the last seq of it that was seen.
Place = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class News:
    """The next events after a place; ``more`` may follow at once, or nothing ever (``over``)."""

    events: Sequence[dict[str, Any]]
    more: bool
    over: bool


def events(run_id: UUID, *, after: int = 0, limit: int = MAX_BATCH) -> list[dict[str, Any]]:
    """Events with a seq above ``after``, in order: {seq, type, step, at, data}.  Costs one query."""
    rows = Event.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")
    return [shown(row) for row in rows.values("seq", "type", "step", "at", "data")[: min(limit, MAX_BATCH)]]


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of events as everybody sees it."""
    return {
        "seq": row["seq"],
        "type": row["type"],
        "step": row["step"] or None,
        "at": row["at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": row["data"],
    }


def is_over(run_id: UUID, *, after: int) -> bool:
    """Whether nothing will ever come after ``after``: the run has ended (or is gone) and all was read.

    Costs one query.
    """
    run = Run.objects.filter(pk=run_id).values("status", "event_seq").first()
    return run is None or (run["status"] in RUN_FINAL and run["event_seq"] <= after)


def news(places: Sequence[Place]) -> list[News]:
    """What is new at each place, in their order.  Costs one query for all."""
    most = min(MAX_EACH, max(LEAST_READ, MAX_READ // max(1, len(places))))
    found: list[list[db.Row]] = [[] for _ in places]
    runs, after = [run for run, _ in places], [seq for _, seq in places]
    for row in db.rows(SQL["news"], runs=runs, after=after, most=most):
        found[row["n"] - 1].append(row)
    return [_news(rows, most) for rows in found]


def _news(rows: Sequence[db.Row], most: int) -> News:
    new = [shown(row) for row in rows if row["seq"] is not None]
    more = len(new) == most
    return News(new, more, over=rows[0]["ended"] and not more)
