"""One batch of what history loses: a short transaction of its own, of which only one runs at a time."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from agentsys.core import db

from .sql import SQL

#: Rows that a batch looks at, and what it takes at most: runs or payloads, their events, their bytes.
LOOK, BATCH, MOST_EVENTS, MOST_BYTES = 2_000, 200, 10_000, 50_000_000
#: In the order in which they free what the next ones take.
JOBS = ("runs", "history", "keys", "requests", "payloads", "traces")
_FIRST: dict[str, Any] = {job: UUID(int=0) for job in JOBS} | {"requests": 0, "payloads": 0}
TRIES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What is taken.  Days are the installation's; ``older_than`` beats every workspace's own for runs."""

    days: dict[str, float]
    older_than: float | None = None
    workspace_id: UUID | None = None
    heed_pauses: bool = True
    really: bool = True
    batch: int = BATCH


@dataclass(frozen=True, slots=True)
class Batch:
    """``taken``: how many; ``after``: where the next one goes on, None at the table's end."""

    taken: int
    after: Any


def first(job: str) -> Any:
    """Where a pass begins."""
    return _FIRST[job]


def least_kept(days: dict[str, float]) -> db.Row:
    """The shortest time for which anybody keeps ``runs``, ``history`` and ``keys``, in days, and whether all pauses."""
    found = db.rows(SQL["least_kept"], **{f"{name}_days": value for name, value in days.items()})[0]
    return {name.removesuffix("_days"): value for name, value in found.items()}


def batch(job: str, after: Any, terms: Terms) -> Batch | None:
    """The next batch of a pass; None when somebody else is at it."""
    for _ in range(TRIES):
        try:
            with transaction.atomic(durable=True):
                found = db.row(SQL["lock_job"], job="prune")
                return _taken(job, after, terms) if found and found["mine"] else None
        except IntegrityError:  # a run was made from one of them, or content used, in this very moment
            continue
    return Batch(0, None)


def _taken(job: str, after: Any, terms: Terms) -> Batch:
    least = least_kept(terms.days)
    if terms.older_than is not None:
        least["runs"] = terms.older_than
    for_ever = job in terms.days and least[job] is None
    if for_ever or (least["paused"] and terms.heed_pauses):
        return Batch(0, None)
    row = db.rows(
        SQL[f"prune_{job}"], after=after, look=LOOK, batch=terms.batch, really=terms.really,
        workspace_id=terms.workspace_id, heed_pauses=terms.heed_pauses, older_than=terms.older_than,
        days=terms.days.get(job), runs_days=terms.days["runs"], keys_days=terms.days["keys"],
        least_days=least.get(job), most_rows=MOST_EVENTS, most_bytes=MOST_BYTES,
    )[0]  # fmt: skip
    if row["full"] and row["taken"]:
        return Batch(row["taken"], row["last_taken"])
    return Batch(row["taken"], row["last_looked"] if row["looked"] == LOOK else None)
