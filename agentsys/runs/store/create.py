"""Rows of new runs and new steps, made from plans that were checked before."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, transaction
from psycopg.types.json import Jsonb
from pydantic_core import to_json

from agentsys.agents.models import AgentVersion
from agentsys.agents.plan_types import NO_ANSWER, Plan, PlanStep
from agentsys.core import db
from agentsys.tools.registry import ToolSpec

from .. import results
from ..models import Run
from ..states import Lane, StepKind
from . import payloads, reservations, slots
from .change import Change
from .holding import within_cap
from .sql import SQL

_FIELDS = Run._meta.concrete_fields
_COLUMNS = [field.attname for field in _FIELDS]
#: What a run begins with in each column that nobody has given.
_BEGINNING = {field.attname: None if field.has_db_default() else field.get_default() for field in _FIELDS}
ACT_KEY = "act"
PLAN_KEY = "plan.1"  # a dot: no key of a plan can be the same


@dataclass(frozen=True, slots=True)
class NewSteps:
    """Steps as the tables take them: rows in plan order, and the answer template."""

    rows: list[dict[str, Any]]
    answer: dict[str, Any] | None = None

    @property
    def roots(self) -> list[str]:
        """Lanes of the steps that wait for nobody."""
        return [row["lane"] for row in self.rows if not row["deps_left"]]

    @property
    def edges(self) -> list[dict[str, str]]:
        """Who waits for whom."""
        return [{"parent": parent, "child": row["key"]} for row in self.rows for parent in row["depends_on"]]


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run of a version, as its table takes it (``values``: column -> value, and ``deadline_s``), and its steps."""

    version: AgentVersion
    values: Mapping[str, Any]
    steps: NewSteps

    @property
    def id(self) -> UUID:
        made: UUID = self.values["id"]
        return made

    def as_json(self, n: int, **more: Any) -> dict[str, Any]:
        """The ``n``-th of those that are written together; ``more`` goes before its own."""
        version = self.version
        own = {"n": n, "agent": version.agent.slug, "agent_version_id": version.pk, "steps": self.steps.rows}
        return {**self.values, **self._of_steps(), **own, **more}

    def placed(self, taken: Counter[str]) -> tuple["NewRun", dict[str, int]]:
        """With a place in its lane for each first step, after those that are ``taken``; and the first one a lane."""
        places: dict[str, int] = {}
        rows = []
        for row in within_cap(self.steps.rows, self.values["limits"], lambda row: not row["deps_left"]):
            if not row["deps_left"] and "held" not in row:
                taken[row["lane"]] += 1
                places.setdefault(row["lane"], taken[row["lane"]])
                row = {**row, "place": taken[row["lane"]]}
            rows.append(row)
        return replace(self, steps=replace(self.steps, rows=rows)), places

    def stored(self, written: Mapping[str, Any]) -> Run:
        """As it is now in the database; ``written`` has what only the database knew."""
        own = {"agent_version_id": self.version.pk, "event_seq": 1, **self._of_steps()}
        values = {**_BEGINNING, **self.values, **own, **written}
        run: Run = Run.from_db(DEFAULT_DB_ALIAS, _COLUMNS, [values[name] for name in _COLUMNS])
        run.agent_version = self.version
        return run

    def _of_steps(self) -> dict[str, Any]:
        steps = self.steps
        return {"answer": steps.answer, "open_steps": len(steps.rows), "active_steps": len(steps.roots)}


def planning_step(key: str = PLAN_KEY, arguments: dict[str, Any] | None = None) -> NewSteps:
    """Step 0 of a run without a fixed plan: make one.  With arguments (see ``replan``), a later step: make another."""
    step = PlanStep(key=key, arguments=arguments or {})
    return NewSteps([_row(0, step, StepKind.PLAN, Lane.MODEL, "pure", settings.MODEL_TIMEOUT_S * 3)])


def acting_step(schema: dict[str, Any] | None) -> NewSteps:
    """The one step of a run that acts for its goal; its result, of this shape, is the run's."""
    arguments = {} if schema is None else {"schema": schema}
    row = _plan_row(0, PlanStep(key=ACT_KEY, kind="act", arguments=arguments), {})
    return NewSteps([row], results.stored("${" + ACT_KEY + "}"))


def calls_of(
    steps: Sequence[PlanStep], tools: Mapping[str, ToolSpec], *, caller: str, turn: int, said: str
) -> NewSteps:
    """The rows of what a step that acts calls in a turn; the first has what the model said."""
    rows = [
        _plan_row(n, replace(step, key=f"{caller}.{turn}.{n + 1}"), tools) | {"caller": caller}
        for n, step in enumerate(steps)
    ]
    rows[0]["objective"] = said
    return NewSteps(rows)


def steps_of(plan: Plan, tools: Mapping[str, ToolSpec]) -> NewSteps:
    """The rows of a checked plan."""
    rows = [_plan_row(n, step, tools) for n, step in enumerate(plan.steps)]
    answer = None if plan.answer is NO_ANSWER else results.stored(plan.answer)
    return NewSteps(rows, answer)


def _plan_row(n: int, step: PlanStep, tools: Mapping[str, ToolSpec]) -> dict[str, Any]:
    if step.kind == "tool":
        spec = tools[step.tool]
        if spec.approval and not step.approval:  # any of them suffices, none takes it away
            step = replace(step, approval=True)
        return _row(n, step, StepKind.TOOL, Lane(spec.lane), spec.effect, spec.timeout_s)
    if step.kind in ("wait", "ask", "delegate"):
        return _row(n, step, StepKind(step.kind), Lane.SYSTEM, "pure", settings.STEP_TIMEOUT_S)
    times = 3 if step.kind == "act" else 1  # a turn may be corrected twice
    return _row(n, step, StepKind(step.kind), Lane.MODEL, "pure", settings.MODEL_TIMEOUT_S * times)


def _row(n: int, step: PlanStep, kind: StepKind, lane: Lane, effect: str, timeout_s: float) -> dict[str, Any]:
    return {
        "n": n, "key": step.key, "kind": kind.value, "tool": step.tool if kind == StepKind.TOOL else "",
        "title": step.title, "objective": step.objective, "arguments": step.arguments or None,
        "depends_on": list(step.depends_on), "lane": lane.value, "effect": effect, "on_error": step.on_error,
        "if_failed": step.if_failed, "approval": step.approval, "expires_s": step.expires_s,
        "timeout_s": step.timeout_s or timeout_s,
        "max_attempts": step.max_attempts or settings.STEP_MAX_ATTEMPTS, "deps_left": len(step.depends_on),
    }  # fmt: skip


def insert_runs(
    new: Sequence[NewRun], *, workspace_id: UUID, created_by_id: int | None, only_if_current: bool = False
) -> list[Run]:
    """Write runs, their steps and their first events in one statement; without those whose idempotency key is taken.

    Their first steps are ready where a slot is free (of those that slots.make made before), else queued for one.
    Costs a statement more for each value that is kept elsewhere, one for all of them, and one for all that are limited.

    Args:
        only_if_current: Also without those whose version is not their agent's current one.
    """
    taken = Counter[str]()
    uses = payloads.Uses(workspace_id)
    placed = [run.placed(taken) for run in new]
    runs = [
        _as_text(run, uses, n=n, only_if_current=only_if_current, places=places)
        for n, (run, places) in enumerate(placed)
    ]
    given = {"workspace_id": workspace_id, "created_by_id": created_by_id}
    limited = [run.id for run in new if not reservations.KINDS.keys().isdisjoint(run.values["limits"])]
    with transaction.atomic() if uses or limited else nullcontext():
        written = db.rows(SQL["insert_runs"], runs=Jsonb(b"[%b]" % b",".join(runs), dumps=bytes), **given)
        rows = {row["id"]: row for row in written}
        uses.keep(rows)
        if limited:
            db.rows(SQL["insert_budgets"], runs=limited)
    slots.admit_later([(workspace_id, lane) for row in written[:1] for lane in row["wanting"]])
    return [run.stored(rows[run.id] | given) for run in new if run.id in rows]


def _as_text(run: NewRun, uses: payloads.Uses, **how: Any) -> bytes:
    text = to_json(run.as_json(**how))
    if not payloads.may_need_packing(text):
        return text
    packed = {name: uses.packed(run.values[name], run.id) for name in ("plan", "input")}
    return to_json(run.as_json(**how, **packed, steps=uses.rows(run.steps.rows, run.id)))


def add_steps(
    change: Change, steps: NewSteps, *, beside: Sequence[int] = (), not_before: datetime | None = None
) -> list[int]:
    """Add steps to a locked run; their ids.

    Args:
        beside: Ids of steps of the run that the new ones may depend on, too.
        not_before: Steps that wait for nobody sleep until then.
    """
    run = change.run
    made = db.rows(
        SQL["insert_steps"],
        workspace_id=run["workspace_id"],
        run_id=run["id"],
        plan_version=run["plan_version"],
        priority=run["priority"],
        held=change.held,
        steps=Jsonb(steps.rows),
        edges=Jsonb(steps.edges),
        beside=list(beside),
        not_before=not_before,
    )
    run["open_steps"] += len(steps.rows)
    run["active_steps"] += len(steps.roots)
    for row in made:
        if row["status"] == change.ready:
            change.ring(row["lane"])
    return [row["id"] for row in made]


def plan_revised(change: Change, steps: NewSteps, superseded: Sequence[str] = ()) -> None:
    """These steps and their answer template are the plan of a locked run now."""
    change.run["answer"] = steps.answer
    added = [row["key"] for row in steps.rows]
    change.event("plan.revised", version=change.run["plan_version"], added=added, superseded=list(superseded))


__all__ = [
    "PLAN_KEY", "NewRun", "NewSteps", "acting_step", "add_steps", "calls_of", "insert_runs", "plan_revised",
    "planning_step", "steps_of",
]  # fmt: skip
