"""Slots: queued -> ready for as many steps of a workspace and lane as its limit leaves room for.

Whoever makes a step runnable queues it, commits, and admits; whoever gives a slot back is told whether somebody may
wait for it.  The row runs_laneslot is the lock: see sql/slots.sql.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from django.conf import settings
from django.db import Error, connection, transaction

from agentsys.core import db

from .sql import SQL

logger = logging.getLogger(__name__)
#: A workspace and a lane.
Pair = tuple[UUID, str]
#: Of one workspace and lane in one statement.
MAX_ADMITTED = 1_000
MAX_REMEMBERED = 10_000
#: Slots whose limit follows the setting in one statement.
MAX_AT_ONCE = 100
_made: set[Pair] = set()


def make(workspace_id: UUID, lanes: Collection[str]) -> None:
    """Make the rows that this process does not know of; usually none, and no query.

    Outside of any transaction: whoever waited for a new row while he holds a key could be waited for.
    """
    for lane in sorted(lanes):
        if (workspace_id, lane) not in _made:
            _make(workspace_id, lane)


def _make(workspace_id: UUID, lane: str) -> None:
    db.rows(SQL["make_slot"], workspace_id=workspace_id, lane=lane, lim=settings.LANE_SLOTS)
    if len(_made) >= MAX_REMEMBERED:
        _made.clear()
    _made.add((workspace_id, lane))


def admit(workspace_id: UUID, lane: str) -> int:
    """queued -> ready while there are free slots; how many.  One statement, one commit; waits for the slot only."""
    values = {"workspace_id": workspace_id, "lane": lane, "limit": MAX_ADMITTED}
    row = db.row(SQL["admit"], **values)
    if row is None:
        _make(workspace_id, lane)
        row = db.row(SQL["admit"], **values)
    return row["moved"] if row else 0  # none: the workspace is gone


def admit_all(pairs: Iterable[Pair]) -> list[str]:
    """:func:`admit` after a commit; the lanes to ring, once a step admitted.

    Never raises: what came before is committed, and the sweeper admits once a second.
    """
    lanes: list[str] = []
    for workspace_id, lane in sorted(set(pairs)):
        try:
            lanes += [lane] * db.retrying(lambda w=workspace_id, x=lane: admit(w, x))  # type: ignore[misc]
        except Error as error:
            logger.warning("steps of %s are admitted later: %s", lane, error)
            connection.close()
            break
    return lanes


def admit_later(pairs: Sequence[Pair]) -> None:
    """:func:`admit_all` now, or after the commit of the transaction that is open."""
    if pairs:
        transaction.on_commit(lambda: admit_all(pairs))


def free(workspace_id: UUID, counts: Mapping[str, int]) -> list[str]:
    """Give back so many slots a lane, after the steps of the same transaction; the lanes for which others may wait."""
    lanes = sorted(lane for lane, n in counts.items() if n > 0)
    if not lanes:
        return []
    given = {"lanes": lanes, "counts": [counts[lane] for lane in lanes]}
    return [row["lane"] for row in db.rows(SQL["free_slots"], workspace_id=workspace_id, **given) if row["hungry"]]


def demote(workspace_id: UUID, lane: str) -> int:
    """ready -> queued for what is over a lowered limit; how many."""
    row = db.row(SQL["demote"], workspace_id=workspace_id, lane=lane)
    return row["moved"] if row else 0


def set_limit(workspace_id: UUID, lane: str, *, lim: int | None, weight: float | None) -> list[str] | None:
    """Set a slot's limit and weight (None: as it is); then what is over goes back to the queue, or what waits comes in.

    Returns:
        The lanes to ring, once a step admitted; None where the workspace is gone.
    """
    row = db.retrying(lambda: _set(workspace_id, lane, lim, weight))
    if row is None:
        return None
    if row["used"] > row["lim"]:
        _demote_now(workspace_id, lane)
    return admit_all([(workspace_id, lane)])


def _set(workspace_id: UUID, lane: str, lim: int | None, weight: float | None) -> db.Row | None:
    """One statement, one commit."""
    values = {"workspace_id": workspace_id, "lane": lane, "lim": lim, "weight": weight}
    row = db.row(SQL["set_slot"], **values)
    if row is None:
        _make(workspace_id, lane)
        row = db.row(SQL["set_slot"], **values)
    return row


def set_default(lim: int) -> int:
    """The limit of all slots that nobody has set; how many had another.  Some at a time, a commit each."""
    changed = 0
    while found := db.retrying(lambda: db.rows(SQL["set_default_slots"], lim=lim, batch=MAX_AT_ONCE)):
        changed += len(found)
    return changed


def _demote_now(workspace_id: UUID, lane: str) -> None:
    """Never raises: the limit is committed, and the sweeper demotes once a second."""
    try:
        db.retrying(lambda: demote(workspace_id, lane))
    except Error as error:
        logger.warning("steps of %s go back to the queue later: %s", lane, error)
        connection.close()


def recount(workspace_id: UUID, lane: str) -> bool:
    """Make a slot's count what is ready and running; True if it was not."""
    with transaction.atomic(durable=True):
        if db.row(SQL["lock_slot"], workspace_id=workspace_id, lane=lane) is None:
            _make(workspace_id, lane)
        return db.row(SQL["recount_slot"], workspace_id=workspace_id, lane=lane) is not None
