"""Child runs pause with their parent, go on with it, and stop with it.

Parent and child are never locked in one transaction: the parent's pause is committed first, then each child's, by
whoever paused the parent; what a crash between them left over, the sweeper does.  A child that a person has paused
stays so when its parent goes on.
"""

import logging
from collections.abc import Sequence
from uuid import UUID

from django.db import Error

from agentsys.core import db
from agentsys.core.errors import AgentSysError

from . import control, moves
from .sql import SQL

logger = logging.getLogger(__name__)
#: The reason of a run that is paused, or stopped, because its parent is.
REASON = control.WITH_PARENT
#: Children of one run that are moved at once; the sweeper does the rest.
BATCH = 500


def follow(run_id: UUID) -> Sequence[str]:
    """Children of this run pause or go on as it does, and theirs; the lanes to ring.

    To be quick: it never raises, for the sweeper comes by anyway.
    """
    try:
        return [lane for row in db.rows(SQL["children_unlike"], run_id=run_id, limit=BATCH) for lane in move(row)]
    except (AgentSysError, Error) as error:
        logger.info("the children of %s follow later: %s", run_id, error)
        return ()


def stop(run_id: UUID) -> None:
    """Stop the children of this run for which no step waits any more, and so those below them.

    Never raises, as :func:`follow`.
    """
    try:
        for row in db.rows(SQL["orphans_of"], run_id=run_id, limit=BATCH):
            moves.stop(row["id"], reason=REASON)
    except (AgentSysError, Error) as error:
        logger.info("the children of %s are stopped later: %s", run_id, error)


def move(row: db.Row) -> Sequence[str]:
    """One child, and those below it.

    Raises:
        NotFound: it is gone.
    """
    if row["parent_paused"]:
        moved: Sequence[str] | None = () if control.pause(row["id"], reason=REASON) else None
    else:
        moved = control.resume(row["id"], reason=REASON)
    return () if moved is None else [*moved, *follow(row["id"])]
