"""A step whose worker ended under it: what each attempt leaves behind, and the case against a poisonous one."""

from datetime import datetime
from typing import Any

from agentsys.core import db, exits
from agentsys.core.errors import AgentSysError, StepPoisoned, WorkerLost
from agentsys.runs.recorded import digest
from agentsys.runs.rendering import rendered

from . import payloads
from .sql import SQL

MAX_CRASHES = 3
#: What "why" means, see ``moves.give_back``.
_WHY = {"dead": "its process has ended", "lease": "its lease ran out: nothing was heard of it"}


def worker_lost(held: db.Row, why: str) -> WorkerLost:
    """The error of an attempt whose worker ended under it."""
    ended = {"ended": how} if (how := exits.how(held["lease_owner"])) else {}
    return WorkerLost(f"The worker was lost: {_WHY.get(why, why)}.", why=why, worker=held["lease_owner"], **ended)


def is_last(held: db.Row) -> bool:
    """Whether one crash more is one too many."""
    return bool(held["crashes"] + 1 >= MAX_CRASHES)


def poison(held: db.Row, lost: WorkerLost) -> StepPoisoned:
    """The error of a step that is not tried again, with the evidence: each crash, the tool and what it was called with.

    Costs a query, and those of rendering its arguments.
    """
    before = db.rows(SQL["crashed_attempts"], step_id=held["id"], run_id=held["run_id"])
    now = {"number": held["attempt"], "worker": held["lease_owner"], "data": lost.data}
    now |= {"started_at": held["claimed_at"], "ended_at": held["now"]}
    crashes = [_crash(row) for row in [*before, now]]
    message = (
        f"The step ended its worker {MAX_CRASHES} times and is not tried again."
        " When its cause is mended, retry the run: what has succeeded is kept."
    )
    evidence = {"tool": held["tool"], "arguments_digest": _digest_of(held), "crashes": crashes[-MAX_CRASHES:]}
    return StepPoisoned(message, why=lost.data["why"], **evidence)


def _crash(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "attempt": row["number"],
        "worker": row["worker"],
        "why": row["data"].get("why"),
        "ended": row["data"].get("ended"),
        "started_at": _iso(row["started_at"]),
        "ended_at": _iso(row["ended_at"]),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _digest_of(held: db.Row) -> str | None:
    """Of the arguments as they were rendered; None where they cannot be any more."""
    try:
        return digest(rendered(held["run_id"], payloads.unpacked(held["arguments"], held["workspace_id"]) or {}))
    except AgentSysError:
        return None
