"""Models that have failed lately, for all workers: asked no more for a while, then by one call at a time.

The state is soft: a row that is lost or late costs a failed call, never a result.
"""

from agentsys.core import db
from agentsys.core.errors import ModelPaused, ModelUnavailable

from .sql import SQL

#: Failures in a row with which a breaker opens; for how long at first, and at most (s).
MOST, FIRST_S, LONGEST_S = 5, 15.0, 300.0
#: Whoever comes while a probe is under way looks again after this long (s), at least.
SOON_S = 1.0


def admit(model: str, *, timeout_s: float) -> bool:
    """Ask before a call.  One query; one more where the model is open.

    Returns:
        Whether something is known against it, which :func:`succeeded` then takes back.

    Raises:
        ModelPaused: it is not to be asked now.
    """
    row = db.row(SQL["breaker"], model=model)
    if row is None or not row["is_open"]:
        return row is not None
    if db.row(SQL["breaker_probe"], model=model, for_s=timeout_s) is None:
        raise ModelPaused(
            f"{model} has failed {row['failures']} times in a row and is not asked for now; last: {row['error']}"[:500],
            model=model,
            retry_after_s=max(SOON_S, row["left_s"]),
            cost=False,
        )
    return True


def failed(model: str, error: ModelUnavailable) -> None:
    """The model could not answer."""
    values = {"model": model, "error": error.message[:500], "most": MOST, "first_s": FIRST_S, "longest_s": LONGEST_S}
    db.retrying(lambda: db.rows(SQL["breaker_failed"], **values))


def succeeded(model: str) -> None:
    """The model has answered, after failures."""
    db.retrying(lambda: db.rows(SQL["breaker_closed"], model=model))
