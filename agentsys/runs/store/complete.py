"""running -> succeeded: the steady state, one statement and one commit for the steps of a few runs."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb
from pydantic_core import to_json

from agentsys.core import db
from agentsys.core.errors import LeaseLost
from agentsys.runs import results

from ..states import RunStatus, StepStatus
from . import parallel, payloads, slots
from .claims import Claim, Completion, Result, claimed, from_row
from .payloads import Owner
from .sql import SQL

#: Claims that are taken, and results that are recorded, in one statement; complete.sql has the same bound.
MAX_BATCH = 16

#: A run that others change meanwhile is tried again, as it is then; each of a batch may meet that a few times.
MAX_ROUNDS = 100

Outcome = Completion | LeaseLost


@dataclass(frozen=True, slots=True)
class _Known:
    """What the statement's guards compare: the run as it was read last."""

    plan_version: int
    open_steps: int
    ending: dict[str, Any] | None = None  #: how it ends with the one step that is open


@dataclass(frozen=True, slots=True)
class _Record:
    """One result on its way, and its output as the row takes it."""

    claim: Claim
    result: Result
    output: bytes


def complete(claim: Claim, result: Result, *, claim_next: bool = True) -> Completion:
    """Record a step's output, join its children, end the run if it was the last, claim the next step.

    Raises:
        LeaseLost: the step is no longer ours; nothing was changed.
    """
    outcome = complete_all([(claim, result)], claim_next=int(claim_next))[claim.claim_token]
    if isinstance(outcome, LeaseLost):
        raise outcome
    return outcome


def complete_all(done: Sequence[tuple[Claim, Result]], *, claim_next: int) -> dict[UUID, Outcome]:
    """:func:`complete` for at most MAX_BATCH steps of one lane, in one commit; a step that ends its run after others
    of the same run have been given with it is recorded in a second one.

    Up to ``claim_next`` steps that follow are claimed along, a run's first before any run's second.

    Safe to repeat: a claim's token tells what an earlier try whose answer was lost has done.

    Returns:
        What came of each, by its claim's token: a LeaseLost was not recorded, for it is no longer ours.
    """
    records = db.persistent(lambda: [_record(claim, result) for claim, result in done], for_s=settings.LEASE_S)
    batch = _Batch(records, claim_next)
    outcomes = db.persistent(batch.record, for_s=settings.LEASE_S)
    lanes = [*slots.admit_all(batch.wanting), *parallel.fit_all(batch.roomy)]
    return _with_lanes(outcomes, lanes) if lanes else outcomes


def _record(claim: Claim, result: Result) -> _Record:
    """Large outputs are written one by one, before what is locked, and go no further than this."""
    return _Record(claim, result, payloads.text(result.output, Owner(claim.workspace_id, claim.run_id)))


class _Batch:
    """Results on their way; ``record`` is done again as a whole when an answer was lost."""

    def __init__(self, records: list[_Record], claim_next: int) -> None:
        self._records = sorted(records, key=lambda record: record.claim.run_id)  # the order of their locks
        self._claim_next = claim_next
        self._asked: list[UUID] = []  # tokens of claims that may have been taken along
        self._known: dict[UUID, _Known] = {}
        self.wanting: set[slots.Pair] = set()  #: where a step may be admitted now
        self.roomy: set[UUID] = set()  #: runs that may have more steps at a time now
        for claim in sorted((record.claim for record in records), key=lambda claim: -claim.run_open_steps):
            self._see(claim.run_id, claim.run_plan_version, claim.run_open_steps)

    def record(self) -> dict[UUID, Outcome]:
        outcomes: dict[UUID, Outcome] = {}
        taken = [from_row(row) for row in claimed(self._asked)] if self._asked else []
        left = self._records
        for _ in range(MAX_ROUNDS):
            if not left:
                break
            now = self._now(left)
            moved, more = self._write(now, self._claim_next - len(taken))
            taken += more
            for record in now:
                outcome = self._outcome(record, moved.get(record.claim.run_id))
                if outcome is not None:
                    outcomes[record.claim.claim_token] = outcome
            left = [record for record in left if record.claim.claim_token not in outcomes]
        if left:  # only a run whose counters are wrong refuses for so long; what was recorded is, and is told again
            raise RuntimeError(
                f"step {left[0].claim.key} of run {left[0].claim.run_id} does not fit its run's counters"
            )
        return _with_claims(outcomes, self._records, taken)

    def _see(self, run_id: UUID, plan_version: int, open_steps: int) -> None:
        known = self._known.get(run_id)
        if known is None or plan_version >= known.plan_version:  # of one version, open steps only fall
            self._known[run_id] = _Known(plan_version, open_steps)

    def _now(self, left: Sequence[_Record]) -> list[_Record]:
        """Those that go together: all of a run, but the one that ends it alone."""
        of_runs = groupby(left, key=lambda record: record.claim.run_id)
        return [
            record
            for run_id, records in of_runs
            for record in islice(records, max(1, self._known[run_id].open_steps - 1))
        ]

    def _write(self, records: Sequence[_Record], room: int) -> tuple[dict[UUID, db.Row], list[Claim]]:
        """The runs that moved, and the steps that were claimed along."""
        self._foresee([record for record in records if self._known[record.claim.run_id].open_steps == 1])
        tokens = [uuid.uuid4() for _ in range(room)]
        self._asked += tokens
        first = records[0].claim
        of_run = Counter(record.claim.run_id for record in records)
        rows = db.rows(
            SQL["complete"],
            given=_joined([_given(one, self._known[one.claim.run_id], of_run[one.claim.run_id]) for one in records]),
            tokens=tokens,
            lane=first.lane,
            owner=first.lease_owner,
            lease_s=settings.LEASE_S,
        )
        for row in rows:
            self._see(row["moved_id"], row["run_plan_version"], row["run_open_steps"])
            lanes = [*(row["queued_lanes"] or ()), *([first.lane] if row["hungry"] else ())]
            self.wanting.update((row["moved_workspace"], lane) for lane in lanes)
            if row["roomy"]:
                self.roomy.add(row["moved_id"])
        return {row["moved_id"]: row for row in rows}, [from_row(row) for row in rows if row["id"] is not None]

    def _outcome(self, record: _Record, moved: db.Row | None) -> Outcome | None:
        if moved is not None and record.claim.id in moved["moved_steps"]:
            return Completion(lanes=moved["ready_lanes"] or (), parent_step=moved["parent_step"])
        return self._unmoved(record)

    def _unmoved(self, record: _Record) -> Outcome | None:
        """Why nothing was written; None: the run has changed since it was read, and is to be tried again."""
        claim = record.claim
        state = db.row(SQL["completion_state"], step_id=claim.id, token=claim.claim_token)
        if state is None or not state["ours"] or state["status"] not in (StepStatus.RUNNING, StepStatus.SUCCEEDED):
            return LeaseLost(step=claim.key, attempt=claim.attempt)
        if state["status"] == StepStatus.SUCCEEDED:  # an earlier try of ours got through
            self.wanting.add((claim.workspace_id, claim.lane))
            if state["capped"]:
                self.roomy.add(claim.run_id)
            return Completion(lanes=(claim.lane,), parent_step=state["parent_step"])
        self._known[claim.run_id] = _Known(state["plan_version"], state["open_steps"])  # no result of the earlier look
        return None

    def _foresee(self, last: Sequence[_Record]) -> None:
        """The results of runs that end now, worked out with no lock held; the guards refuse those that have changed."""
        if not last:
            return
        runs = {row["id"]: row for row in db.rows(SQL["endings"], run_ids=[record.claim.run_id for record in last])}
        for record in last:
            run = runs.get(record.claim.run_id)
            if run is not None and run["open_steps"] == 1 and run["status"] != RunStatus.CANCELLING:
                self._known[run["id"]] = _Known(run["plan_version"], 1, _ending(record, run))


def _with_claims(
    outcomes: dict[UUID, Outcome], records: Sequence[_Record], taken: Sequence[Claim]
) -> dict[UUID, Outcome]:
    """The claims that were taken along, each with the last of its run that was recorded."""
    by_run: dict[UUID, list[Claim]] = {}
    for claim in taken:
        by_run.setdefault(claim.run_id, []).append(claim)
    for record in reversed(records):
        outcome, claims = outcomes[record.claim.claim_token], by_run.pop(record.claim.run_id, [])
        if claims and isinstance(outcome, Completion):
            outcomes[record.claim.claim_token] = replace(outcome, claims=claims)
    return outcomes


def _with_lanes(outcomes: dict[UUID, Outcome], lanes: Sequence[str]) -> dict[UUID, Outcome]:
    """The lanes of the steps that were admitted afterwards, each with one that was recorded."""
    token, first = next((token, one) for token, one in outcomes.items() if isinstance(one, Completion))
    return outcomes | {token: replace(first, lanes=[*first.lanes, *lanes])}


def _joined(given: Sequence[bytes]) -> Jsonb:
    return Jsonb(b"[%b]" % b",".join(given), dumps=bytes)


def _given(record: _Record, known: _Known, of_run: int) -> bytes:
    costs = record.result.costs()
    values = {
        "run_id": record.claim.run_id,
        "step_id": record.claim.id,
        "token": record.claim.claim_token,
        "plan_version": known.plan_version,
        "of_run": of_run,
        "last": known.open_steps == 1,
        "usage": usage_of(record.result),
        **(known.ending or {}),
        **costs,
    }
    return b'%b,"output":%b}' % (to_json(values)[:-1], record.output)


def _ending(record: _Record, run: db.Row) -> dict[str, Any]:
    outputs = run["outputs"]
    if record.claim.key in outputs:
        outputs[record.claim.key] = record.result.output
    result, error = results.make(run["answer"], outputs, run)
    if error is None:
        result = payloads.packed(result, Owner(record.claim.workspace_id, record.claim.run_id))
        return {"result": result, "ended": RunStatus.SUCCEEDED.value, "end_reason": "complete"}
    return {"error": error, "ended": RunStatus.FAILED.value, "end_reason": "error"}


def usage_of(result: Result) -> dict[str, Any] | None:
    """A step's usage as REST shows it; None when no model was called."""
    if result.usage is None:
        return None
    return {**result.costs(), "cost_usd": float(result.usage.cost_usd)}
