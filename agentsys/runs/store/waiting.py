"""What has waited for a counterpart and goes on by itself, once that has acted."""

from collections.abc import Sequence
from uuid import UUID

from agentsys.core import db

from ..states import StepStatus
from .change import Change, locked
from .sql import SQL


def go_on(run_id: UUID, key: str, reason: str) -> Sequence[str]:
    """waiting(reason) -> queued; the lanes to ring.  Of no effect on a step that does not wait for this any more."""
    with locked(run_id) as change:
        release(change, key, reason)
    return change.lanes


def release(change: Change, key: str, reason: str) -> bool:
    """:func:`go_on` within a change; False: it does not wait for this any more."""
    row = db.row(
        SQL["leave_waiting"], run_id=change.run["id"], key=key, reason=reason, to=change.ready.value, output=None,
        error=None, priority=change.run["priority"], held=change.held,
    )  # fmt: skip
    if row is None:  # somebody was faster
        return False
    change.left(StepStatus.WAITING, row["status"], row["lane"])
    change.repark()
    change.event("step.released", key, why=reason)
    change.ring(row["lane"])
    return True
