"""Messages to a run: kept under its lock, and read by the steps that ask a model, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agentsys.accounts import keys
from agentsys.core import db
from agentsys.core.errors import InvalidTransition, TooManyMessages

from ..states import RunStatus, StepKind
from . import replan as planning
from .change import locked
from .claims import Claim
from .sql import SQL

MAX_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was kept, and the lanes to ring; ``replayed``: it was kept before, by the same key."""

    id: int
    lanes: Sequence[str] = ()
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A message as a step reads it; ``first`` is the step that has read it first."""

    text: str
    replan: bool
    first: str


def send(run_id: UUID, text: str, *, by: str | None = None, replan: bool = False, key: keys.Key | None = None) -> Sent:
    """Keep a message for the run's next step that asks a model; with ``replan`` there is one that plans anew.

    Raises:
        InvalidTransition: the run ends or has ended.
        TooManyMessages: it has had as many as it may.
        PlanFixed, TooManyPlans: it cannot plan anew.
        IdempotencyKeyReused: the key belongs to another request.
    """
    with locked(run_id) as change:
        if key is not None and (before := keys.take(key)) is not None:
            return Sent(int(before), replayed=True)
        if change.is_final or change.run["status"] == RunStatus.CANCELLING:
            raise InvalidTransition("The run has finished or is being stopped; nothing would read a message.")
        if replan:  # before the message is there: one that is not read yet says that a plan is asked for already
            planning.ask(change)
        row = db.row(
            SQL["insert_message"], workspace_id=change.run["workspace_id"], run_id=run_id, text=text, by=by or "",
            most=MAX_MESSAGES, replan=replan,
        )  # fmt: skip
        if row is None:
            raise TooManyMessages(f"A run takes {MAX_MESSAGES} messages.")
        told: dict[str, Any] = {"replan": True} if replan else {}
        change.event("message.received", seq=row["seq"], text=text, by=by, **told)
        if key is not None:
            keys.made(key, row["id"])
    return Sent(int(row["id"]), change.lanes)


def read(claim: Claim) -> list[str]:
    """Everything the run was told, in order; what nobody had read is read by this step now.

    Costs one query, and a transaction when there is something new.
    """
    return [told.text for told in heard(claim)]


def heard(claim: Claim) -> list[Told]:
    """:func:`read`, with what each message is.  One that asks for another plan is for planning steps to read first."""
    found = db.rows(SQL["messages"], run_id=claim.run_id)
    if any(message["unread"] and (claim.kind == StepKind.PLAN or not message["replan"]) for message in found):
        db.retrying(lambda: _mark(claim))
        found = db.rows(SQL["messages"], run_id=claim.run_id)
    return [Told(row["text"], row["replan"], row["read_by"]) for row in found if not row["unread"]]


def _mark(claim: Claim) -> None:
    with locked(claim.run_id) as change:
        marked = db.rows(
            SQL["mark_read"], run_id=claim.run_id, step_id=claim.id, token=claim.claim_token, key=claim.key
        )
        if marked and not change.is_final:
            change.event("message.read", claim.key, seqs=sorted(row["seq"] for row in marked))
