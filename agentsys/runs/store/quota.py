"""How many runs a workspace may submit a minute: a bucket in PostgreSQL, exact and there without Redis."""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction

from agentsys.core import db
from agentsys.core.errors import InvalidInput, QuotaExceeded

from .sql import SQL

T = TypeVar("T")


def within(workspace_id: UUID, count: int, insert: Callable[[], T]) -> T:
    """Do ``insert``, which writes ``count`` runs, if that is within the quota; what writes none uses up none.

    Costs nothing where there is no quota (``settings.RUNS_PER_MINUTE`` is 0), else a statement and a transaction.

    Raises:
        QuotaExceeded: it is not; nothing was stored.  ``retry_after_s`` says when it would be.
        InvalidInput: it never will be.
    """
    rate = settings.RUNS_PER_MINUTE
    if not rate:
        return insert()
    with transaction.atomic():
        _take(workspace_id, count, rate)
        made = insert()
        if not made:
            transaction.set_rollback(True)
    return made


def _take(workspace_id: UUID, count: int, rate: int) -> None:
    if count > rate:
        raise InvalidInput(f"{count:,} runs at once are more than the {rate:,} that a workspace may submit a minute.")
    asked: dict[str, Any] = {"workspace_id": workspace_id, "rate": rate}
    if db.row(SQL["take_quota"], count=count, **asked):
        return
    left = db.row(SQL["quota_left"], **asked)
    wait_s = max(0.0, count - (left["left_over"] if left else 0.0)) * 60 / rate
    raise QuotaExceeded(
        f"This workspace may submit {rate:,} runs a minute; try again in {wait_s:.1f} s.", retry_after_s=wait_s
    )
