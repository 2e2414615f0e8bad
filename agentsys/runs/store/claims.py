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
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import AgentSysError
from agentsys.llm.types import Usage
from agentsys.runs.told import told

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
    """What came of recording a result: claims of what follows in the same run and lane, and lanes to ring."""

    claims: Sequence[Claim] = ()
    lanes: Sequence[str] = ()
    parent_step: int | None = None  #: the run has ended, and a step of its parent waits for that

    @property
    def next(self) -> Claim | None:
        """The first of the claims."""
        return self.claims[0] if self.claims else None


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
    """ready -> running for the step of ``lane`` whose turn it is; None when nothing is due."""
    found = claim_some(lane, owner=owner, limit=1)
    return found[0] if found else None


def claim_some(lane: str, *, owner: str, limit: int, alone: bool = True) -> list[Claim]:
    """:func:`claim` for up to ``limit`` steps whose turn it is, each of another run.

    One statement, one commit.  When the answer is lost with its connection, the tokens find the claims.

    Args:
        alone: the caller holds no other claim.  It tries again a few times where all that is ready belongs to runs
            that are busy this moment; and only it gets a step that was there when a worker died.
    """
    for _ in range(BUSY_TRIES):
        found = _claim_once(lane, owner, limit, alone)
        if found or not alone or db.row(SQL["is_ready"], lane=lane) is None:
            return found
        time.sleep(random.uniform(0.002, 0.02))
    return []


def _claim_once(lane: str, owner: str, limit: int, alone: bool) -> list[Claim]:
    tokens = [uuid.uuid4() for _ in range(limit)]
    try:
        rows = _claim(tokens, lane=lane, owner=owner, alone=alone)
    except (OperationalError, InterfaceError):
        rows = db.persistent(lambda: claimed(tokens), for_s=settings.LEASE_S / 3)
    return [from_row(row) for row in rows]


def _claim(tokens: list[UUID], **how: Any) -> list[db.Row]:
    values = {"tokens": tokens, "limit": len(tokens), "lease_s": settings.LEASE_S, **how}
    return db.retrying(lambda: db.rows(SQL["claim"], **values))


def claimed(tokens: list[UUID]) -> list[db.Row]:
    """The running claims of these tokens whose commit happened."""
    return db.rows(SQL["claimed_by_tokens"], tokens=tokens)


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


def write_attempt(row: db.Row, *, token: UUID, outcome: str, error: AgentSysError | None = None) -> None:
    """Keep what became of an attempt; the first word on a token stays."""
    db.rows(
        SQL["insert_attempt"], token=token, workspace_id=row["workspace_id"], run_id=row["run_id"], step_id=row["id"],
        number=row["attempt"], worker=row["lease_owner"], outcome=outcome, error=error and Jsonb(told(error)),
        started_at=row["claimed_at"],
    )  # fmt: skip
