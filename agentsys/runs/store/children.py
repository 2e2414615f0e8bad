"""Parents and children: a step that waits for a run of its own, and what becomes of either when the other ends.

Parent and child are never locked in one transaction.  The child's end is committed first; then the parent's step
takes it over, by whoever sees it first: whoever has ended the child, or the sweeper.
"""

import logging
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import Error

from agentsys.core import db
from agentsys.core.errors import AgentSysError, ChildFailed
from agentsys.runs.told import told

from .. import dispatch
from ..states import RunStatus, StepStatus
from . import kin, payloads
from .change import Change, jsonb, locked
from .claims import Claim
from .moves import Fault, after_failure, leave
from .sql import SQL

logger = logging.getLogger(__name__)
REASON = "child"


def wait_for_child(claim: Claim, *, child_run_id: UUID | None = None) -> Sequence[str]:
    """running -> waiting for the child that the step has made.  Uses up no try.

    Returns:
        Lanes to ring: the child may have ended before.

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> bool:
        with locked(claim.run_id) as change:
            if change.run["status"] == RunStatus.CANCELLING:
                leave(change, claim, StepStatus.CANCELLED, reason="run")
                return False
            change.park(REASON)
            leave(change, claim, StepStatus.WAITING, reason=REASON, outcome="delegated")
            named = {} if child_run_id is None else {"child_run_id": str(child_run_id)}
            change.event("step.waiting", claim.key, reason=REASON, **named)
        dispatch.wake(change.lanes)  # somebody else has its slot
        return True

    if db.persistent(work, for_s=settings.LEASE_S):
        return take_over(claim.id)
    kin.stop_children(claim.run_id)
    return ()


def take_over(step_id: int) -> Sequence[str]:
    """waiting(child) -> succeeded or failed, if the step's child has ended; the lanes to ring.

    A hint to be quick: it never raises, for the sweeper comes by anyway.
    """
    try:
        return join(step_id)
    except (AgentSysError, Error) as error:
        logger.info("the end of a child is taken over later: %s", error)
        return ()


def join(step_id: int) -> Sequence[str]:
    """As :func:`take_over`.

    Raises:
        NotFound: the parent is gone.
    """
    child = db.row(SQL["ended_child"], step_id=step_id)
    if child is None:
        return ()
    with locked(child["run_id"]) as change:
        _join(change, child)
    return change.lanes


def _join(change: Change, child: db.Row) -> None:
    good = child["status"] == RunStatus.SUCCEEDED
    error = None if good else _error(child)
    row = db.row(
        SQL["leave_waiting"], run_id=child["run_id"], key=child["key"], reason=REASON,
        to=(StepStatus.SUCCEEDED if good else StepStatus.FAILED).value, output=jsonb(child["result"] if good else None),
        error=jsonb(error and told(error)), priority=change.run["priority"], held=change.held,
    )  # fmt: skip
    if row is None:  # somebody was faster, or the parent stops
        return
    uses = payloads.Uses(row["workspace_id"])
    uses.add(row["output"], row["run_id"])
    uses.keep([row["run_id"]])
    change.left(StepStatus.WAITING, row["status"], row["lane"])
    change.repark()
    if error is not None:
        after_failure(change, row, Fault(error, "error"))
        return
    change.event("step.succeeded", row["key"], attempt=row["attempt"], child_run_id=str(child["id"]))
    change.join(row["id"])


def _error(child: db.Row) -> ChildFailed:
    inner = child["error"] or {"code": child["status"], "message": f"it was {child['status']} ({child['reason']})"}
    return ChildFailed(f"The child run failed: {inner['message']}", child_run_id=str(child["id"]), error=inner)
