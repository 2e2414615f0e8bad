"""running -> succeeded: the steady state, one statement and one commit a step."""

import uuid
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import LeaseLost
from agentsys.runs import results

from ..states import RunStatus, StepStatus
from .change import jsonb
from .claims import Claim, Completion, Result, by_token, from_row
from .sql import SQL


@dataclass(frozen=True, slots=True)
class _Known:
    """What the statement's guards compare: the run as it was read last."""

    plan_version: int
    last: bool
    result: Any = None
    error: dict[str, Any] | None = None


def complete(claim: Claim, result: Result, *, claim_next: bool = True) -> Completion:
    """Record a step's output, join its children, end the run if it was the last, claim the next step.

    Safe to repeat: the claim's token tells what an earlier try whose answer was lost has done.

    Raises:
        LeaseLost: the step is no longer ours; nothing was changed.
    """
    next_token = uuid.uuid4()
    return db.persistent(
        lambda: _complete(claim, result, claim_next=claim_next, next_token=next_token), for_s=settings.LEASE_S
    )


def _complete(claim: Claim, result: Result, *, claim_next: bool, next_token: UUID) -> Completion:
    known = _Known(claim.run_plan_version, last=claim.run_open_steps == 1)
    while True:
        if known.last:
            known = _ending(claim, result, known)
        row = _write(claim, result, known, claim_next=claim_next, next_token=next_token)
        if row is not None:
            return _completion(row)
        state = db.row(SQL["completion_state"], step_id=claim.id, token=claim.claim_token)
        if state is None or not state["ours"] or state["status"] not in (StepStatus.RUNNING, StepStatus.SUCCEEDED):
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        if state["status"] == StepStatus.SUCCEEDED:  # an earlier try of ours got through
            return Completion(next=by_token(next_token), lanes=(claim.lane,))
        known = _Known(state["plan_version"], last=state["open_steps"] == 1)  # no result of the earlier look


def _write(claim: Claim, result: Result, known: _Known, *, claim_next: bool, next_token: UUID) -> db.Row | None:
    return db.row(
        SQL["complete"],
        run_id=claim.run_id,
        step_id=claim.id,
        token=claim.claim_token,
        lane=claim.lane,
        owner=claim.lease_owner,
        lease_s=settings.LEASE_S,
        claim_next=claim_next,
        next_token=next_token,
        plan_version=known.plan_version,
        last=known.last,
        output=jsonb(result.output),
        usage=jsonb(usage_of(result)),
        result=jsonb(known.result),
        error=jsonb(known.error),
        end=RunStatus.SUCCEEDED.value if known.error is None else RunStatus.FAILED.value,
        end_reason="complete" if known.error is None else "error",
        **result.costs(),
    )


def _ending(claim: Claim, result: Result, known: _Known) -> _Known:
    """The run's result, worked out with no lock held; the guards refuse it if the run has changed since."""
    run = db.row(SQL["ending_of"], run_id=claim.run_id)
    if run is None or run["open_steps"] != 1 or run["status"] == RunStatus.CANCELLING:
        return replace(known, result=None, error=None)
    keys = results.keys_of(run["answer"])
    rows = db.rows(SQL["ending_inputs"], run_id=claim.run_id, keys=keys)
    outputs = {row["key"]: row["output"] for row in rows}
    if claim.key in outputs:
        outputs[claim.key] = result.output
    made, error = results.make(run["answer"], outputs, run)
    return replace(known, plan_version=run["plan_version"], result=made, error=error)


def _completion(row: db.Row) -> Completion:
    if row["id"] is None:
        return Completion(lanes=row["ready_lanes"] or ())
    return Completion(next=from_row(row), lanes=row["ready_lanes"] or ())


def usage_of(result: Result) -> dict[str, Any] | None:
    """A step's usage as REST shows it; None when no model was called."""
    if result.usage is None:
        return None
    return {**result.costs(), "cost_usd": float(result.usage.cost_usd)}
