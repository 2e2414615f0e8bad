"""A cap on a run's parallel steps: how many of them may want a slot, be ready or running at a time.

Steps beyond it are queued and held for a place.  Places are given and given back under the run's lock, so the cap holds
at every commit; ``Holding.fit`` does it with each change of the run.  ``complete`` hands a step's place to a child by
itself, and what it leaves over is given here, after its commit; what a crash in between left over, the sweeper gives.
"""

import logging
import time
from collections.abc import Collection
from functools import partial
from uuid import UUID

from django.db import Error, connection, transaction

from agentsys.core import db, outage

from . import slots
from .sql import SQL

logger = logging.getLogger(__name__)
#: Runs that somebody else moves at this moment are looked at again so often, after so long (s); then the sweeper does.
TRIES, PAUSE_S = 3, 0.005
#: In one transaction.
BATCH = 500


def fit_all(run_ids: Collection[UUID]) -> list[str]:
    """Places for those steps of these runs that wait for one; the lanes to ring.

    Waits for no run's lock.  Never raises: what came before is committed, and the sweeper comes by once a second.
    """
    ordered = sorted(run_ids)
    return [lane for n in range(0, len(ordered), BATCH) for lane in _fit_some(ordered[n : n + BATCH])]


def _fit_some(run_ids: list[UUID]) -> list[str]:
    try:
        return _fit(run_ids)
    except Error as error:
        connection.close()
        if outage.is_lost(error) or len(run_ids) == 1:
            logger.warning("steps of %d runs get their places later: %s", len(run_ids), error)
            return []
    return [lane for run_id in run_ids for lane in _fit_some([run_id])]  # one that cannot be moved keeps no other


def _fit(run_ids: list[UUID]) -> list[str]:
    left, pairs = set(run_ids), set[slots.Pair]()
    for n in range(TRIES):
        if n:
            time.sleep(PAUSE_S)
        done, found = db.retrying(partial(_fit_free, sorted(left)))
        left -= done
        pairs |= found
        if not left:
            break
    return slots.admit_all(pairs)


def _fit_free(run_ids: list[UUID]) -> tuple[set[UUID], set[slots.Pair]]:
    """Those that nobody else moves, and where steps have got their places: one transaction."""
    with transaction.atomic(durable=True):
        free = [row["id"] for row in db.rows(SQL["lock_free_runs"], run_ids=run_ids)]
        placed = db.rows(SQL["fit_runs"], run_ids=free) if free else []
    return set(free), {(row["workspace_id"], row["lane"]) for row in placed}
