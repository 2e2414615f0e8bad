"""What has waited for a counterpart and goes on by itself, once that has acted."""

from collections.abc import Sequence
from uuid import UUID

from agentsys.core import db

from ..states import StepStatus
from .change import locked
from .sql import SQL


def go_on(run_id: UUID, key: str, reason: str) -> Sequence[str]:
    """waiting(reason) -> queued; the lanes to ring.  Of no effect on a step that does not wait for this any more."""
    with locked(run_id) as change:
        row = db.row(
            SQL["leave_waiting"], run_id=run_id, key=key, reason=reason, to=change.ready.value, output=None, error=None,
            priority=change.run["priority"], held=change.held,
        )  # fmt: skip
        if row is None:  # somebody was faster
            return ()
        change.left(StepStatus.WAITING, row["status"], row["lane"])
        change.repark()
        change.event("step.released", key, why=reason)
        change.ring(row["lane"])
    return change.lanes
