"""Steps that wait for a person: asked in one transaction, decided once in another, and nothing held between.

Every decision is taken under the run's lock by one guarded UPDATE of the open row; whoever comes second
finds it decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.accounts import keys
from agentsys.core import db
from agentsys.core.errors import AgentSysError, ApprovalDecided, ApprovalDenied, ApprovalExpired, InvalidTransition
from agentsys.core.ids import uuid7
from agentsys.runs.told import told

from .. import dispatch
from ..models import Approval
from ..states import ApprovalKind, Decision, RunStatus, StepStatus
from . import payloads
from .change import Change, jsonb, locked
from .claims import Claim
from .moves import Fault, after_failure, leave
from .payloads import Owner
from .sql import SQL

#: Of the arguments in an event, as JSON; who wants to see more reads the approval.
MAX_EVENT_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Question:
    """What a step asks of a person.

    ``arguments`` are those of the call, or ``{question, schema}``; ``size_bytes`` and ``digest`` are of what is
    shown, see asking; ``tainted`` are arguments that come from where they should not, see trust.
    """

    kind: ApprovalKind
    arguments: Any
    digest: str
    size_bytes: int
    tainted: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides, and by which request, if it had a key."""

    id: int | None = None
    name: str | None = None
    key: keys.Key | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """Another call in place of the one asked about; ``template`` renders to exactly ``arguments``."""

    arguments: Any
    digest: str
    template: Any


def is_approved(claim: Claim, digest: str) -> bool:
    """Whether this very call may be made; recorded, if so.  One statement."""
    return db.row(SQL["use_approval"], step_id=claim.id, digest=digest, token=claim.claim_token) is not None


def ask(claim: Claim, question: Question) -> None:
    """running -> waiting for a person, with the question.  Uses up no try.

    Raises:
        LeaseLost: the step is no longer ours; nothing was asked.
    """
    db.persistent(lambda: _ask(claim, question), for_s=settings.LEASE_S)


def _ask(claim: Claim, question: Question) -> None:
    with locked(claim.run_id) as change:
        if change.run["status"] == RunStatus.CANCELLING:
            leave(change, claim, StepStatus.CANCELLED, reason="run")
            return
        # Its own word for the attempt: "waiting" is that of a call nobody saw the end of, and this one never began.
        how = {"reason": question.kind.value, "delay_s": _time_s(claim), "outcome": "asked"}
        leave(change, claim, StepStatus.WAITING, **how)
        values = {"id": uuid7(), "step_id": claim.id, "arguments": Jsonb(question.arguments), "digest": question.digest}
        values["tainted"] = Jsonb(dict(question.tainted))
        (row,) = db.rows(SQL["insert_question"], **values)
        change.park(question.kind)
        change.event("approval.requested", claim.key, **_asked(claim, question, row))
        change.event("step.waiting", claim.key, reason=question.kind.value, approval=str(row["id"]))
    dispatch.wake(change.lanes)  # somebody else has its slot


def _time_s(claim: Claim) -> float:
    (terms,) = db.rows(SQL["approval_terms"], step_id=claim.id)
    return float(terms["expires_s"] or terms["approvals"].get("expires_s") or settings.APPROVAL_EXPIRES_S)


def _asked(claim: Claim, question: Question, row: db.Row) -> dict[str, Any]:
    asked = {
        "approval": str(row["id"]), "kind": question.kind.value, "tool": claim.tool, "digest": question.digest,
        "expires_at": row["expires_at"].isoformat(), "arguments_bytes": question.size_bytes,
    }  # fmt: skip
    if question.tainted:
        asked["tainted"] = dict(question.tainted)
    return {**asked, "arguments": question.arguments} if question.size_bytes <= MAX_EVENT_BYTES else asked


def approve(approval: Approval, by: Person) -> Sequence[str]:
    """waiting -> queued for a slot, for the arguments shown.  Of this and all that follow:

    Returns:
        Lanes to ring.

    Raises:
        ApprovalDecided, ApprovalExpired, InvalidTransition: too late; nothing was changed.
    """

    def work(change: Change) -> None:
        change.ring(_leave(change, approval, change.ready)["lane"])

    return _decide(approval, Decision.APPROVE, by, work)


def edit(approval: Approval, by: Person, edited: Edit) -> Sequence[str]:
    """waiting -> queued, with other arguments: a call of its own, approved by the same word."""
    template, new = payloads.packed(edited.template, _owner(approval)), uuid7()

    def work(change: Change) -> None:
        values = {"arguments": Jsonb(edited.arguments), "digest": edited.digest, "by_id": by.id}
        db.rows(SQL["insert_edited"], id=new, replaces=approval.pk, **values)
        row = _leave(change, approval, change.ready, arguments=template)
        change.ring(row["lane"])

    return _decide(approval, Decision.EDIT, by, work, made=new, digest=edited.digest)


def answer(approval: Approval, by: Person, value: Any) -> Sequence[str]:
    """waiting -> succeeded, with the answer as the step's output."""
    output = payloads.packed(value, _owner(approval))
    return _decide(approval, Decision.ANSWER, by, lambda change: _succeed(change, approval, output), said=value)


def deny(approval: Approval, by: Person, reason: str, *, as_result: bool) -> Sequence[str]:
    """waiting -> failed; ``as_result``: succeeded, with the denial as the output."""

    def work(change: Change) -> None:
        if as_result:
            _succeed(change, approval, {"denied": True, "reason": reason})
        else:
            _fail(change, approval, ApprovalDenied(reason or None))

    return _decide(approval, Decision.DENY, by, work, said=reason or None)


def expire(approval_id: UUID, run_id: UUID) -> Sequence[str]:
    """waiting -> failed, because the time is over.  Of no effect on what is not open or not due."""
    with locked(run_id) as change:
        due = db.row(SQL["decide"], id=approval_id, decision=Decision.EXPIRED.value, by_id=None, answer=None)
        if due is None:
            return ()
        approval = Approval.objects.select_related("step").get(pk=approval_id)
        _tell(change, approval, Decision.EXPIRED)
        _fail(change, approval, ApprovalExpired(expires_at=approval.expires_at))
    return change.lanes


def _owner(approval: Approval) -> Owner:
    return Owner(approval.workspace_id, approval.run_id)


def _decide(
    approval: Approval,
    decision: Decision,
    by: Person,
    work: Callable[[Change], None],
    *,
    said: Any = None,
    made: UUID | None = None,
    **more: Any,
) -> Sequence[str]:
    """``made``: what is shown to whoever decided, if it is not the approval."""
    values = {"id": approval.pk, "decision": decision.value, "by_id": by.id, "answer": jsonb(said)}

    def decide() -> Sequence[str]:
        with locked(approval.run_id) as change:
            if by.key is not None and keys.take(by.key) is not None:
                return ()  # the same request, a moment ago
            if db.row(SQL["decide"], **values) is None:
                raise too_late(Approval.objects.get(pk=approval.pk))
            _tell(change, approval, decision, by=by.name, **more)
            work(change)
            if by.key is not None:
                keys.made(by.key, made or approval.pk)
        return change.lanes

    return db.retrying(decide)


def too_late(approval: Approval) -> AgentSysError:
    """Why an approval can be decided no more."""
    if approval.decision in ("", Decision.EXPIRED):
        return ApprovalExpired()
    if approval.decision == Decision.CANCELLED:
        return InvalidTransition("The run has finished; there is nothing to decide any more.")
    return ApprovalDecided(decision=approval.decision)


def _tell(change: Change, approval: Approval, decision: Decision, **more: Any) -> None:
    told_ = {"approval": str(approval.pk), "decision": decision.value, **more}
    change.event("approval.decided", approval.step.key, **told_)


def _succeed(change: Change, approval: Approval, output: Any) -> None:
    row = _leave(change, approval, StepStatus.SUCCEEDED, output=output)
    change.event("step.succeeded", row["key"], attempt=row["attempt"])
    change.join(row["id"])


def _fail(change: Change, approval: Approval, error: AgentSysError) -> None:
    row = _leave(change, approval, StepStatus.FAILED, error=error)
    after_failure(change, row, Fault(error, "policy"))


def _leave(
    change: Change,
    approval: Approval,
    to: StepStatus,
    *,
    output: Any = None,
    error: AgentSysError | None = None,
    arguments: Any = None,
) -> db.Row:
    row = db.row(
        SQL["leave_asked"], step_id=approval.step_id, kind=approval.kind, to=to.value, output=jsonb(output),
        error=jsonb(error and told(error)), arguments=jsonb(arguments), priority=change.run["priority"],
        held=change.held,
    )  # fmt: skip
    if row is None:  # an open question whose step does not wait: nothing follows from it
        raise InvalidTransition("The step does not wait for this decision.", step=approval.step.key)
    change.left(StepStatus.WAITING, to, row["lane"])
    change.repark()
    return row
