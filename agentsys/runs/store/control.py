"""What a person does to a whole run, in one transaction on one locked run; ``budgets`` has what ends it."""

from collections.abc import Sequence
from uuid import UUID

from .. import dispatch
from ..states import RUN_PAUSABLE
from .change import locked


def pause(run_id: UUID, *, reason: str = "operator", by: str | None = None) -> bool:
    """queued, running or waiting -> paused; True for a paused run too, False when it ends or has ended."""
    with locked(run_id) as change:
        if change.run["status"] in RUN_PAUSABLE:
            change.pause(reason=reason, by=by)
    dispatch.wake(change.lanes)  # others have its slots now
    return change.is_paused


def resume(run_id: UUID, *, by: str | None = None, reason: str | None = None) -> Sequence[str] | None:
    """paused -> queued, running or waiting, as the run's steps say.

    Args:
        reason: only if it is paused for this one.

    Returns:
        Lanes to ring, or None when the run is not paused (for this reason).
    """
    with locked(run_id) as change:
        if not change.is_paused or reason not in (None, change.run["reason"]):
            return None
        change.resume(by=by)
    return change.lanes
