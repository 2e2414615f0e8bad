"""running -> succeeded for steps that have asked a model: their spending is settled with the record.

Where the run's budgets have no room for the steps that one has planned, the plan is kept until they have.
"""

from collections.abc import Sequence
from dataclasses import replace

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import BudgetExhausted

from ..states import RunStatus, StepStatus
from . import payloads, replan
from .change import Change, locked
from .claims import Claim, Result
from .create import NewSteps
from .moves import leave, packed_result, park
from .payloads import Owner
from .reservations import Spending
from .sql import SQL


def expand(claim: Claim, result: Result, steps: NewSteps, spending: Spending | None = None) -> Sequence[str]:
    """running -> succeeded for a step whose output is more steps of its run (a plan).

    If they are more than the budgets of steps have room for: -> waiting(budget), with the plan kept.

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> Sequence[str]:
        rows = payloads.packed_rows(steps.rows, Owner(claim.workspace_id, claim.run_id))
        packed = packed_result(claim, result)
        with locked(claim.run_id) as change:
            change.cost(claim.kind, result)
            change.spending = spending
            _expand(change, claim, packed, replace(steps, rows=rows))
        return change.lanes

    return db.persistent(work, for_s=settings.LEASE_S)


def _expand(change: Change, claim: Claim, result: Result, steps: NewSteps) -> None:
    goes_on = change.run["status"] != RunStatus.CANCELLING
    try:
        if goes_on:  # before the step's lock: nobody who has that waits for a budget
            change.charge_steps(len(steps.rows), instead_of=lambda: replan.replaced(change, claim.arguments))
    except BudgetExhausted as short:  # its attempt has succeeded, and the model is not asked again
        park(change, claim, short, result=result, outcome="succeeded")
        kept = {"rows": steps.rows, "answer": steps.answer, "known": claim.arguments}
        db.rows(SQL["keep_plan"], step_id=claim.id, kept=Jsonb(kept))
        return
    step = leave(change, claim, StepStatus.SUCCEEDED, result=result)
    change.event("step.succeeded", claim.key, attempt=claim.attempt)
    if goes_on:
        replan.record(change, step, steps, known=claim.arguments)


def succeed(claim: Claim, result: Result, spending: Spending | None) -> Sequence[str]:
    """running -> succeeded for a step whose model calls hold reservations; what ``complete`` does, without a claim.

    Returns:
        Lanes to ring.

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> Sequence[str]:
        packed = packed_result(claim, result)
        with locked(claim.run_id) as change:
            change.cost(claim.kind, result)
            change.spending = spending
            row = leave(change, claim, StepStatus.SUCCEEDED, result=packed)
            change.event("step.succeeded", claim.key, attempt=claim.attempt)
            if change.run["status"] != RunStatus.CANCELLING:
                change.join(row["id"])
        return change.lanes

    return db.persistent(work, for_s=settings.LEASE_S)
