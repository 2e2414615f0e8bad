"""running -> blocked for a step that acts: the calls that a model asked for become steps, and it waits for them.

They name it as their ``caller`` and are keyed ``<its key>.<turn>.<n>``.  When all have ended, however they did, it is
queued again for its next turn.  Where the run's budgets have no room for them, they are kept until there is.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import BudgetExhausted, LeaseLost

from ..states import RunStatus, StepStatus
from . import payloads
from .change import Change, locked
from .claims import Claim, Result, write_attempt
from .create import NewSteps, add_steps
from .moves import held_row, leave, park
from .payloads import Owner
from .reservations import Spending
from .sql import SQL


def call(claim: Claim, result: Result, steps: NewSteps, spending: Spending | None) -> Sequence[str]:
    """Insert the calls, and let the step wait for them; ``result`` has what the turn has cost.

    Returns:
        Lanes to ring.

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> Sequence[str]:
        rows = payloads.packed_rows(steps.rows, Owner(claim.workspace_id, claim.run_id))
        with locked(claim.run_id) as change:
            change.cost(claim.kind, result)
            change.spending = spending
            _call(change, claim, rows)
        return change.lanes

    return db.persistent(work, for_s=settings.LEASE_S)


def _call(change: Change, claim: Claim, rows: list[dict[str, Any]]) -> None:
    if change.run["status"] == RunStatus.CANCELLING:
        leave(change, claim, StepStatus.CANCELLED, reason="run")
        return
    try:
        change.charge_steps(len(rows))
    except BudgetExhausted as short:  # the model is not asked again
        park(change, claim, short, outcome="acted")
        db.rows(SQL["keep_plan"], step_id=claim.id, kept=Jsonb({"calls": rows}))
        return
    if held_row(claim.id, claim.claim_token) is None:
        raise LeaseLost(step=claim.key, attempt=claim.attempt)
    step = _wait(change, claim.id, rows, token=claim.claim_token)
    change.left(StepStatus.RUNNING, StepStatus.BLOCKED, step["lane"])
    change.settle(claim.claim_token)
    write_attempt(step, token=claim.claim_token, outcome="acted", error=None)


def go_on(change: Change, row: db.Row) -> bool:
    """waiting(budget) -> blocked for a step whose calls were kept; False: there is no room yet."""
    rows = row["kept"]["calls"]
    try:
        change.charge_steps(len(rows))
    except BudgetExhausted:
        return False
    _wait(change, row["id"], rows, token=None)
    return True


def _wait(change: Change, step_id: int, rows: list[dict[str, Any]], *, token: UUID | None) -> db.Row:
    calls = add_steps(change, NewSteps(rows))
    (step,) = db.rows(
        SQL["wait_for_calls"], step_id=step_id, calls=calls, keys=[row["key"] for row in rows], token=token
    )
    told = [{"step": row["key"], "tool": row["tool"] or row["kind"]} for row in rows]
    change.event("step.acting", step["key"], calls=told)
    return step
