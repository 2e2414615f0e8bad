"""Why a run is not moving: what each of its open steps waits for, since when, and what would change that."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from agentsys.core import db

from . import trust
from .models import Run
from .states import RUN_FINAL, RunStatus, StepKind, StepStatus
from .store.control import WITH_PARENT
from .store.holding import PARALLEL
from .store.sql import SQL

#: Of one run; the others wait for much the same.
MOST = 20
#: A lease is renewed several times in its length; when this part of it has passed, its worker is silent.
SILENT = 0.6


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that a run waits for.

    ``kind`` is stable: running, queue, slot, parallel, no_worker, timer, start_at, retry, rate_limit, breaker,
    approval, question, child, budget, credential, outcome_unknown, paused, draining, dependency.  ``step`` is "" where
    it is the whole run's.
    """

    kind: str
    step: str
    since: datetime | None
    message: str
    unblock: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blockers:
    """``summary`` says it in one sentence; ``left_out``: more open steps than are looked at."""

    summary: str
    found: list[Blocker]
    left_out: int = 0


def of(run: Run, *, live_lanes: Collection[str]) -> Blockers:
    """What keeps a run from going on, or where it is being worked on; nothing for one that has ended.

    Two queries, three where it is paused; at most MOST of its steps are looked at.

    Args:
        live_lanes: lanes that a worker serves at the moment.
    """
    if run.status in RUN_FINAL:
        return Blockers(f"The run has ended: {run.status}.", [])
    rows = db.rows(SQL["open_steps"], run_id=run.pk, priority=run.priority, limit=MOST + 1)
    steps = [_of_step(row, run, live_lanes) for row in rows[:MOST]]
    found = [*_of_run(run), *steps]
    summary = found[0].message if found else "Nothing of the run is open; the sweeper sees to it within a minute."
    return Blockers(summary, found, max(0, run.open_steps - MOST))


def _of_run(run: Run) -> list[Blocker]:
    if run.status == RunStatus.PAUSED:
        return [_paused(run)]
    if run.status == RunStatus.CANCELLING:
        message = "The run is being stopped: what runs is told to end, nothing else starts."
        return [Blocker("draining", "", run.cancel_at, message, "Wait until the steps that run have ended.")]
    if run.held_at is not None:
        return [_out_of_time(run)]
    return []


def _paused(run: Run) -> Blocker:
    held = db.row(SQL["held_by"], run_id=run.pk) or {"at": None, "by": None}
    if run.reason == WITH_PARENT:
        how = f"POST /api/v1/runs/{run.parent_run_id}/resume"
        message = f"The run is paused because its parent run {run.parent_run_id} is."
        return Blocker("paused", "", held["at"], message, how, {"by": held["by"], **_parent(run)})
    by = f" by {held['by']}" if held["by"] else ""
    if run.reason == "policy":
        by = " because another plan could not be made"
    how = f"POST /api/v1/runs/{run.pk}/resume"
    return Blocker("paused", "", held["at"], f"The run is paused{by}.", how, {"by": held["by"]})


def _out_of_time(run: Run) -> Blocker:
    own = run.parent_step is None or db.rows(SQL["time_up"], run_id=run.pk) != []
    whose = str(run.pk if own else run.parent_run_id)
    message = "The run has used up its time." if own else f"The time of its parent run {whose} is used up."
    how = f'POST /api/v1/runs/{whose}/resume {{"limits": {{"time_s": …}}}}'
    return Blocker("budget", "", run.held_at, message, how, {"limit": "time_s", **({} if own else _parent(run))})


def _parent(run: Run) -> dict[str, Any]:
    return {"parent_run": str(run.parent_run_id)}


def _of_step(row: db.Row, run: Run, live_lanes: Collection[str]) -> Blocker:
    if row["status"] == StepStatus.READY and row["lane"] not in live_lanes:
        return _no_worker(row)
    if row["status"] == StepStatus.WAITING:
        return _WAITING.get(row["reason"], _waiting)(row, run)
    return _BY_STATUS[row["status"]](row, run)


def _no_worker(row: db.Row) -> Blocker:
    lane = row["lane"]
    message = f"{row['key']} could run, but no worker serves the lane {lane}."
    return Blocker(
        "no_worker", row["key"], row["ready_at"], message, f"Start one: python -m workers {lane}", {"lane": lane}
    )


def _running(row: db.Row, run: Run) -> Blocker:
    message = f"{row['key']} runs on {row['lease_owner']}, attempt {row['attempt']}."
    how = f"Wait, or POST /api/v1/runs/{run.pk}/cancel"
    expires = row["lease_expires_at"]
    heard = expires - timedelta(seconds=settings.LEASE_S)
    if row["now"] > heard + SILENT * (expires - heard):
        message = f"{row['key']} is held by {row['lease_owner']}, which has been silent since {_moment(heard)}."
        how = f"Only time: from {_moment(expires)} on others take it over."
    return Blocker("running", row["key"], row["claimed_at"], message, how, {"worker": row["lease_owner"]})


def _ready(row: db.Row, _run: Run) -> Blocker:
    ahead, lane = row["ahead"], row["lane"]
    many = f"{ahead} steps" if ahead < 1_000 else "1,000 steps or more"
    before = "it is next" if not ahead else f"{many} of all workspaces stand before it"
    message = f"{row['key']} waits for its turn in the lane {lane}: {before}."
    data = {"lane": lane, "ahead": ahead}
    return Blocker(
        "queue", row["key"], row["ready_at"], message, f"More workers for {lane}, or a higher priority.", data
    )


def _queued(row: db.Row, run: Run) -> Blocker:
    key, lane = row["key"], row["lane"]
    if row["held"] == PARALLEL:
        most = run.limits.get(PARALLEL)
        message = f"{key} waits for others of the run, of which at most {most} may be under way at a time."
        how = f'They have to end, or POST /api/v1/runs/{run.pk}/resume {{"limits": {{"parallel": …}}}}'
        return Blocker(PARALLEL, key, row["queued_at"], message, how, {"limit": most})
    if row["held"]:
        return Blocker("dependency", key, row["told_at"], f"{key} starts when the run goes on.", "", {"waits_for": []})
    data = {"lane": lane, "limit": row["lim"], "used": row["used"]}
    if row["lim"] is None or row["used"] < row["lim"]:
        message = (
            f"{key} waits for a slot of the workspace in the lane {lane}; one is free, and is given within a second."
        )
        return Blocker("slot", key, row["queued_at"], message, "Only time.", data)
    slots = f"{row['used']} of {row['lim']} are in use"
    message = f"{key} waits for a slot of the workspace in the lane {lane}; {slots}."
    how = f"Other steps of the workspace have to end, or an admin raises the limit: PATCH /api/v1/lanes/{lane}"
    return Blocker("slot", key, row["queued_at"], message, how, data)


def _sleeping(row: db.Row, run: Run) -> Blocker:
    key, until = row["key"], row["available_at"]
    data: dict[str, Any] = {"until": until}
    if row["kind"] == StepKind.WAIT or row["reason"] == "timer":
        return Blocker("timer", key, row["told_at"], f"{key} waits until {_moment(until)}.", "Only time.", data)
    if run.started_at is None and run.start_at is not None:
        return Blocker("start_at", key, run.created_at, f"The run starts at {_moment(until)}.", "Only time.", data)
    data |= {"code": row["error_code"], "attempt": row["attempt"]}
    limited = str(row["error_code"]).endswith(("_rate_limited", "_overloaded"))
    if row["error_code"] == "model_paused":
        how = "The model has to answer again: one call asks it from time to time. Or fork with another model."
        message = f"{key} is tried again at {_moment(until)}; {row['error_message']}"[:400]
        return Blocker("breaker", key, row["told_at"], message, how, data)
    why = str(row["error_message"]) if limited else f"attempt {row['attempt']} failed: {row['error_message']}"
    message = f"{key} is tried again at {_moment(until)}; {why}"[:400]
    return Blocker("rate_limit" if limited else "retry", key, row["told_at"], message, "Only time.", data)


def _blocked(row: db.Row, _run: Run) -> Blocker:
    names = row["waits_for"]
    what = ", ".join(names) if names else "another plan that is being made"
    how = "The steps that it waits for." if names else "The new plan."
    return Blocker(
        "dependency", row["key"], row["told_at"], f"{row['key']} waits for {what}.", how, {"waits_for": names}
    )


def _asked(row: db.Row, _run: Run) -> Blocker:
    kind, verb = ("question", "answer") if row["reason"] == "input" else ("approval", "approve, /edit or /deny")
    what = "to answer its question" if kind == "question" else f"to say whether {row['tool']} may be called"
    message = f"{row['key']} waits for a person {what}."
    if row["tainted"]:
        message = f"{message[:-1]}: {trust.said(row['tainted'])}."[:400]
    data = {"approval": row["approval"], "expires_at": row["expires_at"]}
    return Blocker(kind, row["key"], row["told_at"], message, f"POST /api/v1/approvals/{row['approval']}/{verb}", data)


def _child(row: db.Row, _run: Run) -> Blocker:
    message = f"{row['key']} waits for its child run, which is {row['child_status']}."
    data = {"child_run_id": row["child"], "status": row["child_status"]}
    how = f"See GET /api/v1/runs/{row['child']}/blockers"
    return Blocker("child", row["key"], row["told_at"], message, how, data)


def _unknown(row: db.Row, run: Run) -> Blocker:
    message = f"Nobody knows whether the call of {row['tool']} by {row['key']} happened."
    how = f"POST /api/v1/runs/{run.pk}/steps/{row['key']}/resolve"
    return Blocker("outcome_unknown", row["key"], row["told_at"], message, how, {"tool": row["tool"]})


def _unfunded(row: db.Row, run: Run) -> Blocker:
    how = (
        f'POST /api/v1/runs/{run.pk}/resume {{"limits": …}}, or raise the budget that is named;'
        f" what there is now is in GET /api/v1/runs/{run.pk}/budget."
    )
    message = f"{row['key']} waits for a budget since {_moment(row['told_at'])}: "
    message += str(row["error_message"] or "it was used up")[:400]
    data = {"code": row["error_code"], "budgets": row["budgets"] or []}
    return Blocker("budget", row["key"], row["told_at"], message, how, data)


def _uncredited(row: db.Row, run: Run) -> Blocker:
    names = row["credentials"] or []
    how = "An admin adds it, or lets it be used: " + ", ".join(f"PUT /api/v1/credentials/{name}" for name in names)
    if not names:  # a provider's account
        again = _moment(row["available_at"])
        how = f"Mend the account, then POST /api/v1/runs/{run.pk}/resume; it is tried again at {again}."
    message = f"{row['key']} waits for a credential: {row['error_message'] or 'it may not be used'}"[:400]
    return Blocker("credential", row["key"], row["told_at"], message, how, {"credentials": names})


def _waiting(row: db.Row, run: Run) -> Blocker:
    how = f"See GET /api/v1/runs/{run.pk}/steps/{row['key']}"
    return Blocker(row["reason"] or "waiting", row["key"], row["told_at"], f"{row['key']} waits: {row['reason']}.", how)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


_Teller = Callable[[db.Row, Run], Blocker]
_WAITING: dict[str, _Teller] = {
    "approval": _asked,
    "input": _asked,
    "child": _child,
    "outcome_unknown": _unknown,
    "budget": _unfunded,
    "credential": _uncredited,
}
_BY_STATUS: dict[str, _Teller] = {
    StepStatus.RUNNING: _running,
    StepStatus.READY: _ready,
    StepStatus.QUEUED: _queued,
    StepStatus.SLEEPING: _sleeping,
    StepStatus.BLOCKED: _blocked,
}
