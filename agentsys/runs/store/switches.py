"""That another model was asked than the one that was meant: an event of the run."""

from agentsys.core import db
from agentsys.core.errors import LeaseLost, ModelUnavailable
from agentsys.runs.told import told

from .change import locked
from .claims import Claim
from .moves import held_row


def tell(claim: Claim, model: str, other: str, error: ModelUnavailable) -> None:
    """``model`` could not answer, and ``other`` is asked now.

    Raises:
        LeaseLost: the step is no longer ours.
    """
    db.retrying(lambda: _tell(claim, model, other, error))


def _tell(claim: Claim, model: str, other: str, error: ModelUnavailable) -> None:
    with locked(claim.run_id) as change:
        if held_row(claim.id, claim.claim_token) is None:
            raise LeaseLost(step=claim.key, attempt=claim.attempt)
        change.event("model.switched", claim.key, model=model, to=other, error=told(error))
