"""What people do to budgets, and the steps that wait for them: limits raised, room found, time used up.

A parked step goes on as any other does that stops waiting; the plan of one that has planned too much is inserted then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import BudgetExhausted, InvalidInput, InvalidTransition

from ..states import RUN_FINAL, RunStatus, StepStatus
from . import acting, replan, waiting
from .change import Change, locked
from .create import NewSteps
from .holding import PARALLEL
from .reservations import KINDS, amount_of
from .sql import SQL

REASON = "budget"
BATCH = 500
#: Steps that wait, looked at in one statement.
MOST_PARKED = 10_000


@dataclass(frozen=True, slots=True)
class Raised:
    """What came of a resume: lanes to ring, and whether anything goes on that did not."""

    lanes: Sequence[str]
    moved: bool


def work(run_id: UUID | None = None, *, after: int = 0) -> list[db.Row]:
    """What budgets have to do, of one run or of all: rows of ``what`` (fund, hold, release), ``run_id``, ``step_id``.

    Looks at MOST_PARKED steps that wait, from step ``after`` on; a row ``looked`` says that there may be more after its
    ``step_id``.
    """
    return db.rows(SQL["budget_work"], run_id=run_id, limit=BATCH, after=after, most=MOST_PARKED)


def resume(run_id: UUID, limits: Mapping[str, float], *, by: str | None = None) -> Raised:
    """Set limits of a run, end its pause, and let its parked steps go on where there is room, or a credential to try.

    Raises:
        InvalidTransition: the run ends or has ended.
        InvalidInput: it has no limit of this kind, or more is spent and reserved already; nothing was changed.
    """
    with locked(run_id) as change:
        if change.run["status"] in (*RUN_FINAL, RunStatus.CANCELLING):
            raise InvalidTransition("The run has finished or is being stopped.", status=change.run["status"])
        was_paused = change.is_paused
        if limits:
            _set_limits(change, limits, by)
        if was_paused:
            change.resume(by=by)
        found = work(run_id)
        went_on = [_fund(change, row["step_id"]) for row in found if row["what"] == "fund"]
        for row in db.rows(SQL["waiting_for_credentials"], run_id=run_id):  # whoever resumes has mended what was wrong
            went_on.append(waiting.release(change, row["key"], "credential"))
    return Raised(change.lanes, bool(limits) or was_paused or any(went_on))


def _set_limits(change: Change, limits: Mapping[str, float], by: str | None) -> None:
    run = change.run
    for name in limits:
        if name not in run["limits"] and name != PARALLEL:  # of that nothing has been counted from the start
            raise _refused(name, "not_limited", f"The run has no limit of {name}.")
    if "time_s" in limits and (run["held_at"] is not None or limits["time_s"] != run["limits"]["time_s"]):
        _set_time(change, limits["time_s"])
    new = {name: value for name, value in limits.items() if value != run["limits"].get(name)}
    for name, kind in KINDS.items():  # in the order of their locks
        if name in new:
            row = db.row(SQL["set_run_limit"], run_id=run["id"], kind=kind, lim=amount_of(name, new[name]))
            if row is None:
                raise too_low(name)
    if new:  # the same again is told to nobody
        db.rows(SQL["store_limits"], run_id=run["id"], limits=Jsonb(new))
        run["limits"] = {**run["limits"], **new}
        change.event("run.limits_changed", limits=new, **({"by": by} if by else {}))


def too_low(name: str) -> InvalidInput:
    return _refused(name, "too_low", f"The limit of {name} cannot be lower than what is spent and reserved already.")


def _refused(name: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"path": f"limits.{name}", "code": code, "message": message}])


def _set_time(change: Change, time_s: float) -> None:
    """The run has as much more (or less) time as its limit has; what it has waited for that does not count."""
    left = db.rows(SQL["time_left"], run_id=change.run["id"])[0]
    more = timedelta(seconds=time_s - left["time_s"])
    held, up_at = change.run["held_at"] is not None, left["up_at"]
    new = max(up_at, left["now"]) + more if held else up_at + more
    if new <= left["now"] and left["started_at"] is not None:
        raise too_low("time_s")
    change.run["time_up_at"] = new
    if held and not db.rows(SQL["above_is_held"], run_id=change.run["id"]):
        _release(change)


# --- Parked steps -----------------------------------------------------------------------
def fund(step_id: int, run_id: UUID) -> Sequence[str]:
    """waiting(budget) -> ready, or succeeded with its plan inserted; the lanes to ring."""
    with locked(run_id) as change:
        _fund(change, step_id)
    return change.lanes


def _fund(change: Change, step_id: int) -> bool:
    """Whether the step goes on."""
    row = next((row for row in db.rows(SQL["parked"], run_id=change.run["id"]) if row["id"] == step_id), None)
    if row is None:  # somebody was faster
        return False
    if row["kept"] is not None:
        return _insert_kept(change, row)
    return waiting.release(change, row["key"], REASON)


def _insert_kept(change: Change, row: db.Row) -> bool:
    kept = row["kept"]
    if "calls" in kept:
        return _call_kept(change, row)
    steps = NewSteps(kept["rows"], kept["answer"])
    try:
        change.charge_steps(len(steps.rows), instead_of=lambda: replan.replaced(change, kept["known"]))
    except BudgetExhausted:  # the room was taken in between
        return False
    db.rows(SQL["plan_found_room"], step_id=row["id"])
    _gone_on(change, StepStatus.SUCCEEDED, row["lane"])
    change.event("step.succeeded", row["key"], attempt=row["attempt"])
    replan.record(change, row, steps, known=kept["known"])
    return True


def _call_kept(change: Change, row: db.Row) -> bool:
    if not acting.go_on(change, row):
        return False
    _gone_on(change, StepStatus.BLOCKED, row["lane"])
    return True


def _gone_on(change: Change, to: str, lane: str) -> None:
    change.left(StepStatus.WAITING, to, lane)
    change.repark()


# --- Time -------------------------------------------------------------------------------
def hold(run_id: UUID) -> None:
    """Any live state -> waiting(budget) if the run's time is used up (or that of the run above it).

    Nothing of it starts any more; what runs ends and is recorded.
    """
    with locked(run_id) as change:
        run = change.run
        if run["held_at"] is not None or run["status"] in (*RUN_FINAL, RunStatus.CANCELLING):
            return
        left = db.rows(SQL["time_left"], run_id=run_id)[0]
        if run["time_up_at"] is not None and left["started_at"] is None:
            run["time_up_at"] = left["now"] + timedelta(seconds=left["time_s"])  # it has not begun to count
        elif run["time_up_at"] is not None:
            run["time_up_at"] = left["up_at"]
        own = run["time_up_at"] is not None and run["time_up_at"] <= left["now"]
        if own or db.rows(SQL["above_is_held"], run_id=run_id):
            _hold(change, left["now"])


def _hold(change: Change, now: Any) -> None:
    change.hold()
    change.run["held_at"] = now
    if not change.is_paused:
        change.wait_for_time()


def release(run_id: UUID) -> Sequence[str]:
    """What :func:`hold` has held with the run above it goes on; the lanes to ring."""
    with locked(run_id) as change:
        run = change.run
        if run["held_at"] is None or db.rows(SQL["above_is_held"], run_id=run_id):
            return ()
        left = db.rows(SQL["time_left"], run_id=run_id)[0]
        if run["time_up_at"] is None or run["time_up_at"] > left["now"]:
            _release(change)
    return change.lanes


def _release(change: Change) -> None:
    change.run["held_at"] = None
    if not change.is_paused:
        change.go_on()


# --- Agents and workspaces --------------------------------------------------------------
def set_limits(workspace_id: UUID, agent_id: UUID | None, limits: Mapping[str, float | None]) -> None:
    """The limits of a workspace, or of an agent of it, in one transaction; None: no limit any more.

    Raises:
        InvalidInput: more is spent and reserved already; nothing was changed.
    """
    with transaction.atomic():
        for name, kind in KINDS.items():
            if name in limits:
                _set_limit(name, limits[name], {"workspace_id": workspace_id, "agent_id": agent_id, "kind": kind.value})


def _set_limit(name: str, value: float | None, where: Mapping[str, Any]) -> None:
    if value is None:
        db.rows(SQL["drop_limit"], **where)
    elif db.row(SQL["set_limit"], **where, lim=amount_of(name, value)) is None:
        raise too_low(name)
