"""What a run is told while it asks models: that another one was asked than was meant, or less was said to it."""

from typing import Any

from agentsys.core import db
from agentsys.core.errors import AgentSysError, LeaseLost
from agentsys.runs.told import told

from .change import locked
from .claims import Claim
from .moves import held_row


def switched(claim: Claim, model: str, other: str, error: AgentSysError) -> None:
    """``model`` could not answer, and ``other`` is asked now.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    _tell(claim, "model.switched", model=model, to=other, error=told(error))


def compacted(claim: Claim, model: str, error: AgentSysError) -> None:
    """``model`` could not read all of it, and is asked again with less.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    _tell(claim, "model.compacted", model=model, error=told(error))


def _tell(claim: Claim, kind: str, **data: Any) -> None:
    db.retrying(lambda: _write(claim, kind, data))


def _write(claim: Claim, kind: str, data: dict[str, Any]) -> None:
    with locked(claim.run_id) as change:
        if held_row(claim.id, claim.claim_token) is None:
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        change.event(kind, claim.key, **data)
