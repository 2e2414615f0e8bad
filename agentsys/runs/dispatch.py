"""After a commit: the doorbell's wire up to whatever wakes workers, and hints to those who watch a run.

None of it raises, and all of it may be lost.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from agentsys.core import hints

logger = logging.getLogger(__name__)

#: Channels of Redis: runs that have new events; runs that stop while steps of them run; what models say.
CHANGED, STOPPING, DELTAS = "agentsys:changed", "agentsys:stopping", "agentsys:deltas"


def wake(lanes: Sequence[str]) -> None:
    """Ring once per step made ready, so that parallel steps meet parallel workers.

    Never raises: the rows are already committed, so a lost ring costs delay and not work (the sweeper
    rings every lane with ready steps once a second).
    """
    if not lanes:
        return
    try:
        import_string(settings.DISPATCHER)(lanes)
    except Exception as error:  # a broker outage must not turn a recorded run into a 500
        logger.warning("could not ring %s: %r", sorted(set(lanes)), error)


def changed(run_id: UUID | str) -> None:
    """Tell followers that the run has new events.  About 1 µs."""
    hints.post(CHANGED, str(run_id))


def stopping(run_id: UUID) -> None:
    """Tell workers to ask whether the steps they run are to stop."""
    hints.post(STOPPING, str(run_id))


def delta(run_id: UUID | str, step: str, n: int, data: dict[str, Any]) -> None:
    """Show followers a piece of what a model says, number ``n`` of this attempt; it is kept nowhere."""
    hints.post(DELTAS, json.dumps({"run": str(run_id), "step": step, "n": n, "data": data}))
