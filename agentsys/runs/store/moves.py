"""The rarer ways out of ``running`` and ``waiting``; each is one transaction on one locked run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.core import backoff, db
from agentsys.core.errors import AgentSysError, LeaseLost, OutcomeUnknown, ToolFailed
from agentsys.runs.told import told

from ..states import RunStatus, StepStatus
from .change import Change, jsonb, locked
from .claims import Claim, Result
from .complete import usage_of
from .create import NewSteps, insert_steps
from .sql import SQL

MAX_CRASHES = 3
#: With the longest pauses between them these take days.
MAX_FREE_ATTEMPTS = 1000
#: Whoever asks for a longer pause gets this one.
MAX_RETRY_AFTER_S = 86_400


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt ended badly, and the run's reason should the run fail for it."""

    error: AgentSysError
    reason: str


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
        held = db.row(SQL["held"], step_id=claim.id, token=claim.claim_token)
        if held is None:
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        error = _judged(held, fault.error)
        if change.run["status"] == RunStatus.CANCELLING:
            _move(change, held, StepStatus.CANCELLED, error=error, reason="run")
        elif isinstance(error, OutcomeUnknown):
            _park_unknown(change, claim, error)
        elif _may_try_again(claim, error):
            _retry(change, claim, error)
        else:
            _fail_for_good(change, claim, replace(fault, error=error))
    return change.lanes


def _judged(held: db.Row, error: AgentSysError) -> AgentSysError:
    """The error as it counts, by what the row says under the lock: an unsafe call may have started meanwhile.

    After that only a plain no is believed: "try again" is not ours to say, and an exception that nobody
    expected does not tell whether the call had been made before it.
    """
    unexpected = type(error) is AgentSysError or "exception" in error.data
    started = held["effect_started_at"] is not None
    if started and (error.retryable or unexpected) and error.data.get("sent") is not False:
        return OutcomeUnknown(error.message, **error.data)
    return error


def _may_try_again(claim: Claim, error: AgentSysError) -> bool:
    """A failure that uses up no try still has a bound: no step is tried for ever."""
    if not error.uses_attempt:
        return error.retryable and claim.attempt < MAX_FREE_ATTEMPTS
    return error.retryable and claim.failures + 1 < claim.max_attempts


def _retry(change: Change, claim: Claim, error: AgentSysError) -> None:
    delay_s = _delay_s(claim, error)
    # A timer that has run out stays so: only its record has failed.
    reason = "timer" if claim.reason == "timer" else "retry"
    leave(
        change, claim, StepStatus.SLEEPING, error=error, reason=reason, failed=error.uses_attempt, delay_s=delay_s,
        not_sent=error.data.get("sent") is False,
    )  # fmt: skip
    change.event("step.retrying", claim.key, error=told(error), delay_s=round(delay_s, 3))


def _fail_for_good(change: Change, claim: Claim, fault: Fault) -> None:
    row = leave(change, claim, StepStatus.FAILED, error=fault.error, failed=True)
    after_failure(change, row, fault)


def after_failure(change: Change, step: db.Row, fault: Fault) -> None:
    """What follows from a step that has failed for good: its children go on or are skipped, or its run stops."""
    change.event("step.failed", step["key"], error=told(fault.error), attempt=step["attempt"])
    if step["on_error"] == "continue":
        change.join(step["id"], failed=True)
    else:
        change.stop(reason=fault.reason, error=fault.error)


def _park_unknown(change: Change, claim: Claim, error: AgentSysError) -> None:
    change.park("outcome_unknown")
    leave(change, claim, StepStatus.WAITING, error=error, reason="outcome_unknown")
    change.event("step.waiting", claim.key, reason="outcome_unknown", error=told(error))


def _delay_s(claim: Claim, error: AgentSysError) -> float:
    asked = error.data.get("retry_after_s")
    if isinstance(asked, int | float) and not isinstance(asked, bool) and asked == asked:  # not NaN
        return float(min(max(0, asked), MAX_RETRY_AFTER_S))
    return backoff.half_jitter(claim.failures + 1, base_s=settings.RETRY_BASE_S, cap_s=settings.RETRY_CAP_S)


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

    db.persistent(work, for_s=settings.LEASE_S)


def expand(claim: Claim, result: Result, steps: NewSteps) -> Sequence[str]:
    """running -> succeeded for a step whose output is more steps of its run (a plan).

    Raises:
        LeaseLost: the step is no longer ours.
    """

    def work() -> Sequence[str]:
        with locked(claim.run_id) as change:
            leave(change, claim, StepStatus.SUCCEEDED, result=result)
            change.event("step.succeeded", claim.key, attempt=claim.attempt)
            change.cost(claim.kind, result)
            if change.run["status"] != RunStatus.CANCELLING:
                insert_steps(change, steps)
        return change.lanes

    return db.persistent(work, for_s=settings.LEASE_S)


def give_back(step_id: int, run_id: UUID, token: UUID, *, why: str) -> Sequence[str]:
    """running -> ready, or waiting if an unsafe call may have happened, or failed after three crashes.

    Args:
        why: ``lease`` (it has run out; checked again under the lock), ``dead`` (its process has ended) or
            ``released`` (its process gives it up; no crash is counted).

    Returns:
        Lanes to ring; empty too when the step was no longer held by ``token``.
    """
    crashed = why != "released"
    with locked(run_id) as change:
        held = db.row(SQL["held"], step_id=step_id, token=token)
        if held is None or (why == "lease" and not held["expired"]):
            return ()
        _give_back(change, held, why, crashed)
    return change.lanes


def _give_back(change: Change, held: db.Row, why: str, crashed: bool) -> None:
    outcome = "crashed" if crashed else "released"
    error: AgentSysError | None = None
    if held["effect_started_at"] is not None:
        error = OutcomeUnknown("The worker ended during a call that must not be repeated.", tool=held["tool"])
    if change.run["status"] == RunStatus.CANCELLING:
        # Nobody's word can change anything any more: the run ends, and the step says what is not known.
        _move(change, held, StepStatus.CANCELLED, error=error, reason="run", outcome=outcome)
    elif error is not None:
        change.park("outcome_unknown")
        _move(change, held, StepStatus.WAITING, error=error, reason="outcome_unknown")
        change.event("step.waiting", held["key"], reason="outcome_unknown", error=told(error), why=why)
    elif crashed and held["crashes"] + 1 >= MAX_CRASHES:
        poison = AgentSysError(f"The step ended its worker {MAX_CRASHES} times and is not tried again.", why=why)
        row = _move(change, held, StepStatus.FAILED, error=poison, reason="poison", crashed=True, outcome=outcome)
        after_failure(change, row, Fault(poison, "poison"))
    else:  # with its reason: a timer that has run out stays so
        at, reason = held["available_at"], held["reason"]
        _move(change, held, change.ready, crashed=crashed, outcome=outcome, at=at, reason=reason)
        change.event("step.released", held["key"], why=why)
        change.ring(held["lane"])


def resolve(run_id: UUID, key: str, *, outcome: str, result: Any = None, by: str | None = None) -> Sequence[str] | None:
    """waiting(outcome_unknown) -> succeeded, ready or failed, by somebody's word (done, not_done, failed).

    Returns:
        Lanes to ring, or None when the step does not wait for this.
    """
    error = None if outcome != "failed" else ToolFailed("Somebody decided that the call has failed.")
    with locked(run_id) as change:
        to = {"done": StepStatus.SUCCEEDED, "not_done": change.ready, "failed": StepStatus.FAILED}[outcome]
        row = db.row(
            SQL["leave_waiting"], run_id=run_id, key=key, to=to.value, reason="outcome_unknown",
            priority=change.run["priority"], output=jsonb(result), error=jsonb(error and told(error)),
        )  # fmt: skip
        if row is None:
            return None
        change.left(StepStatus.WAITING, to)
        change.repark()
        change.event("step.resolved", key, outcome=outcome, by=by)
        if error is not None:
            after_failure(change, row, Fault(error, "tool"))
        elif to == change.ready:
            change.ring(row["lane"])
        else:
            change.event("step.succeeded", key, attempt=row["attempt"])
            change.join(row["id"])
    return change.lanes


def stop(run_id: UUID, *, reason: str, error: AgentSysError | None = None, by: str | None = None) -> bool:
    """Any live state -> cancelling, and on to cancelled or failed once nothing runs; False if it had ended."""
    with locked(run_id) as change:
        if change.is_final:
            return False
        change.stop(reason=reason, error=error, by=by)
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
    at: datetime | None = None,
    delay_s: float | None = None,
    outcome: str = "",
) -> db.Row:
    row = db.row(
        SQL["leave_running"], step_id=held["id"], token=held["claim_token"], to=to.value, reason=reason,
        output=jsonb(result and result.output), usage=jsonb(result and usage_of(result)),
        error=jsonb(error and told(error)), failed=int(failed), crashed=int(crashed), not_sent=not_sent,
        at=at, delay_s=delay_s,
    )  # fmt: skip
    if row is None:
        raise LeaseLost(step=held["id"])
    change.left(StepStatus.RUNNING, to)
    if to == StepStatus.CANCELLED:
        change.event("step.cancelled", row["key"])
    write_attempt(row, token=held["claim_token"], outcome=outcome or to.value, error=error)
    return row


def write_attempt(row: db.Row, *, token: UUID, outcome: str, error: AgentSysError | None = None) -> None:
    """Keep what became of an attempt; the first word on a token stays."""
    db.rows(
        SQL["insert_attempt"], token=token, workspace_id=row["workspace_id"], run_id=row["run_id"], step_id=row["id"],
        number=row["attempt"], worker=row["lease_owner"], outcome=outcome, error=jsonb(error and told(error)),
        started_at=row["claimed_at"],
    )  # fmt: skip
