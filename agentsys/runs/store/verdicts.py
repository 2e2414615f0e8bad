"""What is said of a call that nobody saw the end of: by its check, while an attempt holds the step, or by a person."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import LeaseLost, ToolFailed
from agentsys.runs.told import told

from ..states import RunStatus, StepStatus
from . import moves
from .change import jsonb, locked
from .claims import Claim, Result
from .sql import SQL
from .unknown import is_checking


def not_done(claim: Claim) -> None:
    """running stays running: the call did not happen, and may be made again.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    db.persistent(lambda: _not_done(claim), for_s=settings.LEASE_S)


def _not_done(claim: Claim) -> None:
    with locked(claim.run_id) as change:
        held = moves.held_row(claim.id, claim.claim_token)
        if held is None:
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        if is_checking(held):  # else this was recorded, and only the answer was lost
            db.rows(SQL["not_done"], step_id=claim.id, token=claim.claim_token)
            change.event("step.verified", claim.key, outcome="not_done", attempt=claim.attempt)


def done(claim: Claim, result: Result) -> Sequence[str]:
    """running -> succeeded, with what the call is said to have given.

    Returns:
        Lanes to ring.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    return db.persistent(lambda: _done(claim, moves.packed_result(claim, result)), for_s=settings.LEASE_S)


def _done(claim: Claim, result: Result) -> Sequence[str]:
    with locked(claim.run_id) as change:
        row = moves.leave(change, claim, StepStatus.SUCCEEDED, result=result)
        change.event("step.verified", claim.key, outcome="done", attempt=claim.attempt)
        change.event("step.succeeded", claim.key, attempt=claim.attempt)
        change.cost(claim.kind, result)
        if change.run["status"] != RunStatus.CANCELLING:
            change.join(row["id"])
    return change.lanes


def resolve(run_id: UUID, key: str, *, outcome: str, result: Any = None, by: str | None = None) -> Sequence[str] | None:
    """waiting(outcome_unknown) -> succeeded, ready or failed, by somebody's word (done, not_done, failed).

    Args:
        result: Of ``done``, packed (see payloads).

    Returns:
        Lanes to ring, or None when the step does not wait for this.
    """
    error = None if outcome != "failed" else ToolFailed("Somebody decided that the call has failed.")
    with locked(run_id) as change:
        to = {"done": StepStatus.SUCCEEDED, "not_done": change.ready, "failed": StepStatus.FAILED}[outcome]
        row = db.row(
            SQL["leave_waiting"], run_id=run_id, key=key, to=to.value, reason="outcome_unknown",
            priority=change.run["priority"], held=change.held, output=jsonb(result), error=jsonb(error and told(error)),
        )  # fmt: skip
        if row is None:
            return None
        change.left(StepStatus.WAITING, to, row["lane"])
        change.repark()
        change.event("step.resolved", key, outcome=outcome, by=by)
        if error is not None:
            moves.after_failure(change, row, moves.Fault(error, "tool"))
        elif to == change.ready:
            change.ring(row["lane"])
        else:
            change.event("step.succeeded", key, attempt=row["attempt"])
            change.join(row["id"])
    return change.lanes
