"""The rarer ways out of ``running`` and ``waiting``; each is one transaction on one locked run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.core import backoff, db
from agentsys.core.errors import (
    AgentSysError,
    BudgetExhausted,
    CredentialUnavailable,
    LeaseLost,
    LoopDetected,
    ModelAccountFailed,
    OutcomeUnknown,
)
from agentsys.core.http_headers import MAX_RETRY_AFTER_S
from agentsys.runs.told import told

from .. import dispatch
from ..states import MODEL_KINDS, RunStatus, StepKind, StepStatus
from . import crashes, payloads, replan, unknown
from .change import Change, jsonb, locked
from .claims import Claim, Result, write_attempt
from .complete import usage_of
from .payloads import Owner
from .reservations import Spending
from .sql import SQL
from .unknown import MAX_FREE_ATTEMPTS

#: A step that waits for an account of a provider, of which nobody tells us, asks again after so long, in seconds.
LOOKS_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt ended badly, the run's reason should the run fail for it, and what its model calls have used."""

    error: AgentSysError
    reason: str
    spending: Spending | None = None


def fail(claim: Claim, fault: Fault) -> Sequence[str]:
    """running -> sleeping (another try), waiting (nobody knows whether it happened) or failed.

    Returns:
        Lanes to ring.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    return db.persistent(lambda: _fail(claim, fault), for_s=settings.LEASE_S)


def _fail(claim: Claim, fault: Fault) -> Sequence[str]:
    with locked(claim.run_id) as change:
        held = held_row(claim.id, claim.claim_token)
        if held is None:
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        error = unknown.judged(held, fault.error)
        if fault.spending is not None:
            change.cost(claim.kind, Result(None, fault.spending.reported))
            change.spending = fault.spending
        if change.run["status"] == RunStatus.CANCELLING:
            _move(change, held, StepStatus.CANCELLED, error=error, reason="run")
        elif isinstance(error, BudgetExhausted | CredentialUnavailable):
            park(change, claim, error)
        elif isinstance(error, OutcomeUnknown):
            _unknown(change, held, fault.error, error)
        elif _may_try_again(claim, error):
            _retry(change, claim, error)
        else:
            _fail_for_good(change, held, replace(fault, error=error))
    return change.lanes


def park(change: Change, claim: Claim, error: BudgetExhausted | CredentialUnavailable, **how: Any) -> db.Row:
    """running -> waiting(budget or credential): nothing of it is lost, and it goes on by itself.  Uses up no try."""
    reason = "budget" if isinstance(error, BudgetExhausted) else "credential"
    how = {"outcome": "parked", "delay_s": LOOKS_AGAIN_S if isinstance(error, ModelAccountFailed) else None, **how}
    change.park(reason)
    row = leave(change, claim, StepStatus.WAITING, error=error, reason=reason, **how)
    change.event("step.waiting", claim.key, reason=reason, error=told(error))
    return row


def held_row(step_id: int, token: UUID) -> db.Row | None:
    """A running step as its holder left it, under the lock of its run; None: the token holds it no longer."""
    return db.row(SQL["held"], step_id=step_id, token=token, grace_s=unknown.GRACE_S)


def _may_try_again(claim: Claim, error: AgentSysError) -> bool:
    """A failure that uses up no try still has a bound: no step is tried for ever."""
    if not error.uses_attempt:
        return error.retryable and claim.attempt < MAX_FREE_ATTEMPTS
    return error.retryable and claim.failures + 1 < claim.max_attempts


def _retry(change: Change, claim: Claim, error: AgentSysError) -> None:
    delay_s = pause_s(claim.failures + 1 if error.uses_attempt else claim.attempt, error)
    # A timer that has run out stays so: only its record has failed.
    reason = "timer" if claim.reason == "timer" else "retry"
    leave(
        change, claim, StepStatus.SLEEPING, error=error, reason=reason, failed=error.uses_attempt, delay_s=delay_s,
        not_sent=error.data.get("sent") is False,
    )  # fmt: skip
    change.event("step.retrying", claim.key, error=told(error), delay_s=round(delay_s, 3))


def _fail_for_good(change: Change, held: db.Row, fault: Fault) -> None:
    charged = held["failures"] < held["max_attempts"]  # else the try was charged when it ended in the dark
    row = _move(change, held, StepStatus.FAILED, error=fault.error, failed=charged)
    after_failure(change, row, fault)


def after_failure(change: Change, step: db.Row, fault: Fault) -> None:
    """What follows from a step that has failed for good: its children go on or are skipped, or its run plans anew
    or stops."""
    change.event("step.failed", step["key"], error=told(fault.error), attempt=step["attempt"])
    if isinstance(fault.error, LoopDetected) and step["kind"] != StepKind.ACT:
        change.stop(reason=fault.reason, error=fault.error)  # the run does not come out of it by itself
    elif replan.is_anew(step):
        replan.came_to_nothing(change, step, fault.error)
    elif step["on_error"] == "continue":
        change.join(step["id"], failed=True)
    elif step["kind"] == StepKind.PLAN or not replan.around(change, step, fault.error, fault.reason):
        change.stop(reason=fault.reason, error=fault.error)


def _unknown(change: Change, held: db.Row, cause: AgentSysError, error: AgentSysError) -> None:
    """Nobody knows whether the call happened: its check is asked a little later, or a person now."""
    checking = unknown.is_checking(held)
    if not unknown.may_check(held, cause):
        _park_unknown(change, held, error, checking)
        return
    tried = int(cause.uses_attempt)
    delay_s = pause_s(held["checks"] + 1 if checking else held["failures"] + 1, error)
    how = {"checked": tried} if checking else {"failed": tried and held["failures"] < held["max_attempts"]}
    _move(
        change, held, StepStatus.SLEEPING, error=error, reason=unknown.VERIFY, delay_s=delay_s,
        outcome="" if checking else "unknown", **how,
    )  # fmt: skip
    change.event("step.unknown", held["key"], error=told(error), delay_s=round(delay_s, 3))


def _park_unknown(change: Change, held: db.Row, error: AgentSysError, checking: bool, **data: Any) -> None:
    change.park("outcome_unknown")
    outcome = "unverified" if checking else ""  # no call was made in this attempt
    _move(change, held, StepStatus.WAITING, error=error, reason="outcome_unknown", outcome=outcome)
    change.event("step.waiting", held["key"], reason="outcome_unknown", error=told(error), **data)


def pause_s(failure: int, error: AgentSysError) -> float:
    """As long as the other side asks for, or longer from one failure (counted from 1) to the next."""
    asked = error.data.get("retry_after_s")
    if isinstance(asked, int | float) and not isinstance(asked, bool) and asked == asked:  # not NaN
        return float(min(max(0, asked), MAX_RETRY_AFTER_S))
    return backoff.half_jitter(failure, base_s=settings.RETRY_BASE_S, cap_s=settings.RETRY_CAP_S)


def sleep(claim: Claim, *, until: datetime | None = None, delay_s: float | None = None) -> None:
    """running -> sleeping until a time; the step is claimed again then.  Uses up no try.

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> None:
        with locked(claim.run_id) as change:
            if change.run["status"] == RunStatus.CANCELLING:
                leave(change, claim, StepStatus.CANCELLED, reason="run")
                return
            row = leave(change, claim, StepStatus.SLEEPING, reason="timer", at=until, delay_s=delay_s)
            change.event("step.sleeping", claim.key, until=row["available_at"].isoformat())
        dispatch.wake(change.lanes)  # somebody else has its slot

    db.persistent(work, for_s=settings.LEASE_S)


def packed_result(claim: Claim, result: Result) -> Result:
    """The result as the step's row takes it; before the run is locked."""
    return replace(result, output=payloads.packed(result.output, Owner(claim.workspace_id, claim.run_id)))


#: Is told, after the commit, of an attempt (its id) that its worker (the last) cannot tell the end of, and why.
Lost = Callable[[str, str, str], None]


def give_back(step_id: int, run_id: UUID, token: UUID, *, why: str, lost: Lost | None = None) -> Sequence[str]:
    """running -> ready, or waiting if an unsafe call may have happened, or failed after three crashes.

    A call that has a check goes back, too, for its check to be asked first.

    Args:
        why: ``lease`` (it has run out; checked again under the lock), ``dead`` (its process has ended) or
            ``released`` (its process gives it up; no crash is counted).

    Returns:
        Lanes to ring; empty too when the step was no longer held by ``token``.
    """
    crashed = why != "released"
    with locked(run_id) as change:
        held = held_row(step_id, token)
        if held is None or (why == "lease" and not held["expired"]):
            return ()
        _give_back(change, held, why, crashed)
    if lost is not None:
        lost(str(token), why, held["lease_owner"])
    return change.lanes


def _give_back(change: Change, held: db.Row, why: str, crashed: bool) -> None:
    outcome = "crashed" if crashed else "released"
    lost = crashes.worker_lost(held, why) if crashed else None
    error: AgentSysError | None = None
    if held["effect_started_at"] is not None:
        error = OutcomeUnknown("The worker ended during a call that must not be repeated.", tool=held["tool"])
    if change.run["status"] == RunStatus.CANCELLING:
        # Nobody's word can change anything any more: the run ends, and the step says what is not known.
        _move(change, held, StepStatus.CANCELLED, error=error, reason="run", outcome=outcome, of_attempt=lost)
    elif error is not None and unknown.may_check_after(held, crashed=crashed):
        how = {"outcome": outcome, **unknown.how_to_check(held, why)}
        to = change.again if how["at"] is None else StepStatus.SLEEPING
        _move(change, held, to, error=error, crashed=crashed, of_attempt=lost, **how)
        change.event("step.unknown", held["key"], error=told(error), why=why)
        if to != StepStatus.SLEEPING:
            change.ring_again(held["lane"])
    elif error is not None:
        _park_unknown(change, held, error, unknown.is_checking(held), why=why)
    elif lost is not None and crashes.is_last(held):
        poison, how = crashes.poison(held, lost), {"reason": "poison", "crashed": True, "of_attempt": lost}
        row = _move(change, held, StepStatus.FAILED, error=poison, outcome=outcome, **how)
        after_failure(change, row, Fault(poison, "poison"))
    else:  # with its reason: a timer that has run out stays so
        at, reason = held["available_at"], held["reason"]
        _move(change, held, change.again, crashed=crashed, outcome=outcome, at=at, reason=reason, of_attempt=lost)
        change.event("step.released", held["key"], why=why)
        change.ring_again(held["lane"])


def stop(run_id: UUID, *, reason: str, error: AgentSysError | None = None, by: str | None = None) -> bool:
    """Any live state -> cancelling, and on to cancelled or failed once nothing runs; False if it had ended."""
    with locked(run_id) as change:
        if change.is_final:
            return False
        change.stop(reason=reason, error=error, by=by)
    dispatch.wake(change.lanes)  # others have its slots now
    return True


def leave(change: Change, claim: Claim, to: StepStatus, **how: Any) -> db.Row:
    """Move a claimed step, and write its attempt.

    Raises:
        LeaseLost: the claim holds it no longer.
    """
    held = {
        "id": claim.id, "claim_token": claim.claim_token, "run_id": claim.run_id, "workspace_id": claim.workspace_id,
    }  # fmt: skip
    return _move(change, held, to, **how)


def _move(
    change: Change,
    held: db.Row,
    to: StepStatus,
    *,
    result: Result | None = None,
    error: AgentSysError | None = None,
    reason: str = "",
    failed: bool = False,
    crashed: bool = False,
    not_sent: bool = False,
    checked: int = 0,
    at: datetime | None = None,
    delay_s: float | None = None,
    outcome: str = "",
    of_attempt: AgentSysError | None = None,
) -> db.Row:
    """``of_attempt``: the attempt's error, where it is not the step's."""
    row = db.row(
        SQL["leave_running"], step_id=held["id"], token=held["claim_token"], to=to.value, reason=reason,
        output=jsonb(result and result.output), usage=jsonb(result and usage_of(result)),
        error=jsonb(error and told(error)), failed=int(failed), crashed=int(crashed), not_sent=not_sent,
        checked=checked, at=at, delay_s=delay_s, held=change.held, priority=change.run["priority"],
    )  # fmt: skip
    if row is None:
        raise LeaseLost(step=held["id"])
    change.left(StepStatus.RUNNING, to, row["lane"], plans=row["kind"] == StepKind.PLAN)
    if row["kind"] in MODEL_KINDS:
        change.settle(held["claim_token"])
    if to == StepStatus.CANCELLED:
        change.event("step.cancelled", row["key"])
    write_attempt(row, token=held["claim_token"], outcome=outcome or to.value, error=of_attempt or error)
    return row
