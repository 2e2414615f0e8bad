"""Planning anew: a run that is under way gets another planning step, and what has not started waits for its plan.

From the moment it is asked for, everything that has not started (no attempt) is ``blocked`` behind the planning
step, by an edge like any other, so that no claim and no join can start it.  When the new plan is recorded these
steps are superseded (``skipped``, reason ``superseded``) in the same transaction; what has started stays, whatever
its state, and the new steps may wait for it.  When the planning fails, a person's run goes on with the plan it had,
paused so that the person sees it; a run that plans around a failure ends with that failure.

What a planning step plans around stands in its arguments, ``{"failures": [{step, error, reason, retryable}]}``;
what people want stands in the run's messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.agents.models import Mode
from agentsys.core import db
from agentsys.core.errors import AgentSysError, PlanFixed, TooManyPlans
from agentsys.runs.told import told

from ..states import RUN_PAUSABLE, StepKind, StepStatus
from .change import Change
from .create import NewSteps, add_steps, plan_revised, planning_step
from .sql import SQL

_FINAL_AND_BAD = (StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class _Planning:
    """The planning steps of a locked run, and how it may plan anew."""

    steps: list[db.Row]
    mode: str
    terms: Mapping[str, Any]

    @property
    def open(self) -> db.Row | None:
        live = (step for step in self.steps if step["status"] not in (StepStatus.SUCCEEDED, *_FINAL_AND_BAD))
        return next(live, None)

    @property
    def is_full(self) -> bool:
        return len(self.steps) >= int(self.terms.get("max_plans", settings.RUN_MAX_PLANS))

    @property
    def may_plan_around(self) -> bool:
        """Whether one failure more may be planned around."""
        used = sum(bool((step["arguments"] or {}).get("failures")) for step in self.steps)
        return used < int(self.terms.get("replan_on_failure", 0))

    @property
    def next_key(self) -> str:
        return f"plan.{max((int(step['key'].partition('.')[2]) for step in self.steps), default=0) + 1}"


def _planning(change: Change) -> _Planning:
    run = change.run
    steps = db.rows(SQL["planning_steps"], run_id=run["id"])
    version = db.rows(SQL["planning_terms"], version_id=run["agent_version_id"])[0]
    return _Planning(steps, version["mode"], version["planning"])


def ask(change: Change) -> None:
    """A person wants another plan.  A planning step that is still to begin will hear of it anyway.

    Raises:
        PlanFixed: there is nothing to plan from.
        TooManyPlans: the run has planned as often as it may.
    """
    planning = _planning(change)
    if not change.run["goal"].strip() or planning.mode != Mode.PLAN:
        raise PlanFixed
    running = planning.open is not None and planning.open["status"] == StepStatus.RUNNING
    if planning.open is not None and not running:
        return
    waiting = running and _is_asked_for(change)
    if planning.is_full and not waiting:
        raise TooManyPlans(f"The run has made {len(planning.steps)} plans, which is all it may.")
    if not running:
        _add(change, planning, why="message")


def _is_asked_for(change: Change) -> bool:
    return db.row(SQL["unread_replan"], run_id=change.run["id"]) is not None


def around(change: Change, step: db.Row, error: AgentSysError, reason: str) -> bool:
    """Plan around a step that has failed for good, if the run's agent does; False: the run fails."""
    if not change.run["goal"].strip():
        return False
    planning = _planning(change)
    if planning.mode != Mode.PLAN or not planning.may_plan_around:
        return False
    if planning.is_full and (planning.open is None or planning.open["status"] == StepStatus.RUNNING):
        return False
    if planning.open is not None and planning.open["arguments"] is None:
        return False  # the run's first plan is not there yet: nothing of it can have failed
    failure = {"step": step["key"], "error": told(error), "reason": reason, "retryable": error.retryable}
    if planning.open is None:
        _add(change, planning, failures=[failure], why="failure")
    else:
        db.rows(SQL["add_failure"], step_id=planning.open["id"], failure=Jsonb([failure]))
    db.rows(SQL["parent_ended"], step_id=step["id"])
    return True


def _add(change: Change, planning: _Planning, *, why: str, failures: list[dict[str, Any]] | None = None) -> None:
    new = planning_step(planning.next_key, {"failures": failures or []})
    run = change.run
    not_before = run["start_at"] if run["started_at"] is None else None
    (plan_id,) = add_steps(change, new, not_before=not_before)
    held = db.rows(SQL["hold_for_plan"], run_id=run["id"], plan_id=plan_id)
    for row in held:
        change.left(row["was"], StepStatus.BLOCKED, row["lane"])
    change.event("plan.requested", planning.next_key, why=why, held=len(held))


def replaced(change: Change, step_arguments: Any) -> int:
    """How many steps the plan of a planning step with these arguments would supersede now."""
    if step_arguments is None:
        return 0
    return int(db.rows(SQL["count_replaced"], run_id=change.run["id"])[0]["steps"])


def record(change: Change, step: db.Row, steps: NewSteps, *, known: Mapping[str, Any] | None) -> None:
    """The plan of a planning step that has just succeeded becomes the run's; it was made with arguments ``known``."""
    superseded = [] if step["arguments"] is None else _supersede(change)
    change.run["plan_version"] += 1
    bad = _on_what_stands(change, steps)
    plan_revised(change, steps, superseded)
    for parent in bad:
        change.join(parent, failed=True)
    _ask_again(change, step, known)


def _supersede(change: Change) -> list[str]:
    rows = db.rows(SQL["supersede"], run_id=change.run["id"], suffix=change.suffix)
    for row in rows:
        change.left(StepStatus.BLOCKED, StepStatus.SKIPPED, row["lane"])
    return [row["key"] for row in sorted(rows, key=lambda row: int(row["id"]))]


def _on_what_stands(change: Change, steps: NewSteps) -> list[int]:
    """Add the steps; the ids of what they depend on and what has ended badly meanwhile."""
    own = {row["key"] for row in steps.rows}
    outside = {key for row in steps.rows for key in row["depends_on"]} - own
    standing = db.rows(SQL["standing"], run_id=change.run["id"], keys=sorted(outside)) if outside else []
    given = {row["key"] for row in standing if row["status"] == StepStatus.SUCCEEDED}
    rows = [row | {"deps_left": sum(key not in given for key in row["depends_on"])} for row in steps.rows]
    add_steps(change, replace(steps, rows=rows), beside=[row["id"] for row in standing])
    return [row["id"] for row in standing if row["status"] in _FINAL_AND_BAD]


def _ask_again(change: Change, step: db.Row, known: Mapping[str, Any] | None) -> None:
    """What came too late for this plan is planned next, before anything of it starts."""
    failures = (step["arguments"] or {}).get("failures", [])
    late = failures[len((known or {}).get("failures", [])) :]
    if late or _is_asked_for(change):
        _add(change, _planning(change), why="failure" if late else "message", failures=late)


def is_anew(step: db.Row) -> bool:
    """Whether the step plans for a run that has begun already."""
    return bool(step["kind"] == StepKind.PLAN and step["arguments"] is not None)


def came_to_nothing(change: Change, step: db.Row, error: AgentSysError) -> None:
    """No new plan: the run fails as it would have without trying, or is held with the plan it had."""
    failures = step["arguments"]["failures"]
    if failures:
        first = failures[0]
        first["error"]["data"] = {**(first["error"]["data"] or {}), "replan": told(error)}
        change.stop_for(first["error"], reason=first["reason"], retryable=first["retryable"])
        return
    asked_again = _is_asked_for(change)
    if change.run["status"] in RUN_PAUSABLE and change.run["open_steps"] and not asked_again:
        change.pause(reason="policy")
    change.join(step["id"])
    if asked_again:
        _add(change, _planning(change), why="message")
