"""What a worker holds: a claim, taken and kept by its token."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError

from agentsys.core import db
from agentsys.llm.types import Usage

from .sql import SQL

#: No unsafe call starts on a lease with less than this share of it left.
GATE_MARGIN = 0.25
BUSY_TRIES = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at a step: the row as it was when this process took it.

    ``claim_token`` is the fence and the attempt's id; ``run_plan_version`` and ``run_open_steps`` are what
    the run was at that moment (the latter only falls, unless the former changes).
    """

    id: int
    workspace_id: UUID
    run_id: UUID
    key: str
    kind: str
    tool: str
    objective: str
    arguments: Any
    depends_on: list[str]
    lane: str
    effect: str
    timeout_s: float
    max_attempts: int
    reason: str
    attempt: int
    failures: int
    claim_token: UUID
    lease_owner: str
    available_at: datetime | None
    approval: bool
    run_open_steps: int
    run_plan_version: int

    @property
    def idempotency_key(self) -> str:
        """The key that every attempt of this step sends to the outside."""
        return f"{self.run_id}:{self.key}"


@dataclass(frozen=True, slots=True)
class Completion:
    """What came of recording a result: the next claim in the same run and lane, and lanes to ring."""

    next: Claim | None = None
    lanes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A step's output, and what it cost."""

    output: Any
    usage: Usage | None = None

    def costs(self) -> dict[str, Any]:
        used = self.usage or Usage()
        return {
            "model_calls": used.model_calls,
            "input_tokens": used.input_tokens,
            "output_tokens": used.output_tokens,
            "cost_usd": Decimal(used.cost_usd),
        }


_FIELDS = tuple(Claim.__slots__)


def from_row(row: db.Row) -> Claim:
    return Claim(**{name: row[name] for name in _FIELDS})


def claim(lane: str, *, owner: str) -> Claim | None:
    """ready -> running for the step of ``lane`` whose turn it is; None when nothing is due.

    One statement, one commit.  When the answer is lost with its connection, the token finds the claim.
    Where all that is ready belongs to runs that are busy this moment, it is tried again a few times.
    """
    for _ in range(BUSY_TRIES):
        found = _claim_once(lane, owner)
        if found is not None or db.row(SQL["is_ready"], lane=lane) is None:
            return found
        time.sleep(random.uniform(0.002, 0.02))
    return None


def _claim_once(lane: str, owner: str) -> Claim | None:
    token = uuid.uuid4()
    try:
        row = _claim(lane, owner, token)
    except (OperationalError, InterfaceError):
        row = db.persistent(lambda: db.row(SQL["claimed_by_token"], token=token), for_s=settings.LEASE_S / 3)
    return from_row(row) if row else None


def _claim(lane: str, owner: str, token: UUID) -> db.Row | None:
    return db.retrying(lambda: db.row(SQL["claim"], lane=lane, owner=owner, token=token, lease_s=settings.LEASE_S))


def by_token(token: UUID) -> Claim | None:
    """The running claim of this token, if its commit happened."""
    row = db.row(SQL["claimed_by_token"], token=token)
    return from_row(row) if row else None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat says of a claim that is still ours; a row that was locked is not renewed this time."""

    cancelled: bool
    renewed: bool


def heartbeat(held: Sequence[tuple[int, UUID]]) -> dict[UUID, Beat]:
    """Renew the leases of ``held`` (step id, token); what does not come back is no longer ours."""
    ids, tokens = [pair[0] for pair in held], [pair[1] for pair in held]
    found = db.retrying(lambda: db.rows(SQL["heartbeat"], ids=ids, tokens=tokens, lease_s=settings.LEASE_S))
    return {row["claim_token"]: Beat(row["cancelled"], row["renewed"]) for row in found}


def open_gate(claim: Claim) -> bool:
    """Record that an unsafe call starts now; False: it must not."""
    margin_s = settings.LEASE_S * GATE_MARGIN
    found = db.row(SQL["open_gate"], step_id=claim.id, token=claim.claim_token, margin_s=margin_s)
    return found is not None


def orphaned(owner: str, held: Sequence[UUID]) -> list[db.Row]:
    """Running steps of this process that it does not hold: a claim whose answer was lost."""
    return db.rows(SQL["orphaned_claims"], owner=owner, tokens=list(held))
