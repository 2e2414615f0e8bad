"""Messages to a run: kept under its lock, and read by the steps that ask a model, each once."""

from uuid import UUID

from agentsys.core import db
from agentsys.core.errors import InvalidTransition, TooManyMessages

from ..states import RunStatus
from .change import locked
from .claims import Claim
from .sql import SQL

MAX_MESSAGES = 100


def send(run_id: UUID, text: str, *, by: str | None = None) -> int:
    """Keep a message for the run's next step that asks a model.

    Returns:
        Its id.

    Raises:
        InvalidTransition: the run ends or has ended.
        TooManyMessages: it has had as many as it may.
    """
    with locked(run_id) as change:
        if change.is_final or change.run["status"] == RunStatus.CANCELLING:
            raise InvalidTransition("The run has finished or is being stopped; nothing would read a message.")
        row = db.row(
            SQL["insert_message"], workspace_id=change.run["workspace_id"], run_id=run_id, text=text, by=by or "",
            most=MAX_MESSAGES,
        )  # fmt: skip
        if row is None:
            raise TooManyMessages(f"A run takes {MAX_MESSAGES} messages.")
        change.event("message.received", seq=row["seq"], text=text, by=by)
    return int(row["id"])


def read(claim: Claim) -> list[str]:
    """Everything the run was told, in order; what nobody had read is read by this step now.

    Costs one query, and a transaction when there is something new.
    """
    found = db.rows(SQL["messages"], run_id=claim.run_id)
    if any(message["unread"] for message in found):
        db.retrying(lambda: _mark(claim))
        found = db.rows(SQL["messages"], run_id=claim.run_id)
    return [message["text"] for message in found if not message["unread"]]


def _mark(claim: Claim) -> None:
    with locked(claim.run_id) as change:
        marked = db.rows(
            SQL["mark_read"], run_id=claim.run_id, step_id=claim.id, token=claim.claim_token, key=claim.key
        )
        if marked and not change.is_final:
            change.event("message.read", claim.key, seqs=sorted(row["seq"] for row in marked))
