"""A cap on a run's parallel steps: how many of them may want a slot, be ready or running at a time.

Steps beyond it are queued and held for a place.  Places are given and given back under the run's lock, so the cap holds
at every commit; ``Holding.fit`` does it with each change of the run.  ``complete`` hands a step's place to a child by
itself, and what it leaves over is given here, after its commit; what a crash in between left over, the sweeper gives.
"""

import logging
from collections.abc import Iterable
from uuid import UUID

from django.db import Error, connection

from agentsys.core import db
from agentsys.core.errors import NotFound

from .change import locked

logger = logging.getLogger(__name__)


def fit_all(run_ids: Iterable[UUID]) -> list[str]:
    """Places for those of these runs that wait for one; the lanes to ring.

    Never raises: what came before is committed, and the sweeper comes by once a second.
    """
    lanes: list[str] = []
    for run_id in sorted(set(run_ids)):
        try:
            lanes += db.retrying(lambda run_id=run_id: fit(run_id))  # type: ignore[misc]
        except NotFound:
            pass  # history has taken it
        except Error as error:
            logger.warning("steps of run %s get their places later: %s", run_id, error)
            connection.close()
            break
    return lanes


def fit(run_id: UUID) -> list[str]:
    """One run; the lanes to ring.

    Raises:
        NotFound: it is gone.
    """
    with locked(run_id) as change:
        pass  # saving it fits it
    return change.lanes
