"""running -> succeeded: the steady state, one statement and one commit for the steps of a few runs."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import LeaseLost
from agentsys.runs import results

from ..states import RunStatus, StepStatus
from .claims import Claim, Completion, Result, by_token, from_row
from .sql import SQL

#: Claims that are taken, and results that are recorded, in one statement; complete.sql has the same bound.
MAX_BATCH = 16

Outcome = Completion | LeaseLost


@dataclass(frozen=True, slots=True)
class _Known:
    """What the statement's guards compare: the run as it was read last.  ``last``: this step ends the run."""

    plan_version: int
    last: bool
    ending: dict[str, Any] | None = None


@dataclass(slots=True)
class _Record:
    """One result on its way; ``next_token`` is that of the claim that goes along, the same at every try."""

    claim: Claim
    result: Result
    next_token: UUID | None
    known: _Known

    def see(self, run: db.Row | None) -> None:
        """Another step of the run was recorded before this one."""
        if run is not None:
            self.known = _known(run["run_plan_version"], run["run_open_steps"])


def complete(claim: Claim, result: Result, *, claim_next: bool = True) -> Completion:
    """Record a step's output, join its children, end the run if it was the last, claim the next step.

    Raises:
        LeaseLost: the step is no longer ours; nothing was changed.
    """
    outcome = complete_all([(claim, result)], claim_next=claim_next)[claim.claim_token]
    if isinstance(outcome, LeaseLost):
        raise outcome
    return outcome


def complete_all(done: Sequence[tuple[Claim, Result]], *, claim_next: int) -> dict[UUID, Outcome]:
    """:func:`complete` for at most MAX_BATCH steps of one lane; one commit for all that are of different runs.

    The first ``claim_next`` of them go along with a claim of what follows.

    Safe to repeat: a claim's token tells what an earlier try whose answer was lost has done.

    Returns:
        What came of each, by its claim's token: a LeaseLost was not recorded, for it is no longer ours.
    """
    records = [
        _Record(
            claim,
            result,
            uuid.uuid4() if n < claim_next else None,
            _known(claim.run_plan_version, claim.run_open_steps),
        )
        for n, (claim, result) in enumerate(done)
    ]
    records.sort(key=lambda record: record.claim.run_id)  # the order of their locks
    return db.persistent(lambda: _complete_all(records), for_s=settings.LEASE_S)


def _known(plan_version: int, open_steps: int) -> _Known:
    return _Known(plan_version, last=open_steps == 1)


def _complete_all(records: Sequence[_Record]) -> dict[UUID, Outcome]:
    outcomes: dict[UUID, Outcome] = {}
    while records:
        now = list({record.claim.run_id: record for record in reversed(records)}.values())[::-1]  # one a run
        _foresee([record for record in now if record.known.last])
        moved = {row["moved_id"]: row for row in _write(now)}
        for record in now:
            row = moved.get(record.claim.run_id)
            found = _unmoved(record) if row is None else _completion(row)
            if found is not None:
                outcomes[record.claim.claim_token] = found
        records = [record for record in records if record.claim.claim_token not in outcomes]
        for record in records:
            record.see(moved.get(record.claim.run_id))
    return outcomes


def _unmoved(record: _Record) -> Outcome | None:
    """Why nothing was written; None: the run has changed since it was read, and is to be tried again."""
    claim = record.claim
    state = db.row(SQL["completion_state"], step_id=claim.id, token=claim.claim_token)
    if state is None or not state["ours"] or state["status"] not in (StepStatus.RUNNING, StepStatus.SUCCEEDED):
        return LeaseLost(step=claim.key, attempt=claim.attempt)
    if state["status"] == StepStatus.SUCCEEDED:  # an earlier try of ours got through
        return Completion(by_token(record.next_token) if record.next_token else None, lanes=(claim.lane,))
    record.known = _known(state["plan_version"], state["open_steps"])  # no result of the earlier look
    return None


def _write(records: Sequence[_Record]) -> list[db.Row]:
    first = records[0].claim
    return db.rows(
        SQL["complete"],
        given=Jsonb([_given(record) for record in records]),
        lane=first.lane,
        owner=first.lease_owner,
        lease_s=settings.LEASE_S,
    )


def _given(record: _Record) -> dict[str, Any]:
    costs = record.result.costs()
    return {
        "run_id": str(record.claim.run_id),
        "step_id": record.claim.id,
        "token": str(record.claim.claim_token),
        "plan_version": record.known.plan_version,
        "last": record.known.last,
        "next_token": record.next_token and str(record.next_token),
        "output": record.result.output,
        "usage": usage_of(record.result),
        **(record.known.ending or {}),
        **costs,
        "cost_usd": str(costs["cost_usd"]),
    }


def _foresee(last: Sequence[_Record]) -> None:
    """The results of runs that end now, worked out with no lock held; the guards refuse those that have changed."""
    if not last:
        return
    runs = {row["id"]: row for row in db.rows(SQL["endings"], run_ids=[record.claim.run_id for record in last])}
    for record in last:
        run = runs.get(record.claim.run_id)
        if run is not None and run["open_steps"] == 1 and run["status"] != RunStatus.CANCELLING:
            record.known = replace(record.known, plan_version=run["plan_version"], ending=_ending(record, run))


def _ending(record: _Record, run: db.Row) -> dict[str, Any]:
    outputs = run["outputs"]
    if record.claim.key in outputs:
        outputs[record.claim.key] = record.result.output
    result, error = results.make(run["answer"], outputs, run)
    if error is None:
        return {"result": result, "ended": RunStatus.SUCCEEDED.value, "end_reason": "complete"}
    return {"error": error, "ended": RunStatus.FAILED.value, "end_reason": "error"}


def _completion(row: db.Row) -> Completion:
    return Completion(None if row["id"] is None else from_row(row), row["ready_lanes"] or (), row["parent_step"])


def usage_of(result: Result) -> dict[str, Any] | None:
    """A step's usage as REST shows it; None when no model was called."""
    if result.usage is None:
        return None
    return {**result.costs(), "cost_usd": float(result.usage.cost_usd)}
