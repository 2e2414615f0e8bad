"""How many requests and tokens a minute a provider's account may have, for all workers together.

Within any minute no more calls are let through than ``settings.MODEL_LIMITS`` says.  A call counts as what it may use
until it is answered, then as what it has used.  Without a limit nothing is written and nothing asked.
"""

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import ModelRateLimited
from agentsys.llm import names
from agentsys.llm.types import CallEstimate

from .claims import Claim
from .sql import SQL


def admit(claim: Claim, model: str, estimate: CallEstimate) -> int | None:
    """Ask before a call; one round trip where there is a limit.

    Returns:
        What :func:`settle` wants; None: there is no limit.

    Raises:
        ModelRateLimited: its turn comes in ``retry_after_s``, and is kept for the step until 5 s after.
    """
    account = names.account(model)
    limits = settings.MODEL_LIMITS.get(account)
    if not limits:
        return None
    row = db.rows(
        SQL["model_room"], account=account, requests=limits.get("requests"), tokens=limits.get("tokens"),
        wanted=estimate.input_tokens + estimate.max_output_tokens, step_id=claim.id,
    )[0]  # fmt: skip
    if row["id"] is None:
        said = " and ".join(f"{most:,} {what}" for what, most in limits.items())
        raise ModelRateLimited(
            f"{model} may have {said} a minute (AGENTSYS_MODEL_LIMITS); this call's turn is in {row['wait_s']:.1f} s.",
            model=model,
            retry_after_s=row["wait_s"],
            cost=False,
        )
    return int(row["id"])


def settle(call: int | None, tokens: int | None) -> None:
    """The call of this number has used so many tokens; of one of which nobody knows, it stays what it might have."""
    if call is not None and tokens is not None:
        db.retrying(lambda: db.rows(SQL["model_used"], id=call, tokens=tokens))
