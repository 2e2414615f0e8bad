"""What a person does to a whole run, in one transaction on one locked run; ``budgets`` has what ends it."""

from collections.abc import Sequence
from uuid import UUID

from .. import dispatch
from ..states import RUN_PAUSABLE
from .change import Change, locked

#: The reason of a run that is paused because its parent is.
WITH_PARENT = "parent"


def pause(run_id: UUID, *, reason: str = "operator", by: str | None = None) -> bool:
    """queued, running or waiting -> paused; True for a paused run too, False when it ends or has ended.

    One that is paused with its parent is a person's from now on: the parent's resume does not lift it.
    """
    with locked(run_id) as change:
        if change.run["status"] in RUN_PAUSABLE or _takes_over(change, reason):
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


def _takes_over(change: Change, reason: str) -> bool:
    return change.is_paused and change.run["reason"] == WITH_PARENT != reason
