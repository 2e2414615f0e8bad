"""Rows of new runs and new steps, made from plans that were checked before."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from psycopg.types.json import Jsonb

from agentsys.agents.plan_types import NO_ANSWER, Plan, PlanStep
from agentsys.core import db
from agentsys.tools.registry import ToolSpec

from .. import results
from ..models import Run
from ..states import Lane, StepKind
from .change import Change, jsonb
from .sql import SQL

PLAN_KEY = "plan.1"  # a dot: no key of a plan can be the same


@dataclass(frozen=True, slots=True)
class NewSteps:
    """Steps as the tables take them: rows in plan order, edges (parent key, child key), the answer template."""

    rows: list[dict[str, Any]]
    edges: list[dict[str, str]] = field(default_factory=list)
    answer: dict[str, Any] | None = None

    @property
    def roots(self) -> list[str]:
        """Lanes of the steps that wait for nobody."""
        return [row["lane"] for row in self.rows if not row["deps_left"]]


def planning_step() -> NewSteps:
    """Step 0 of a run without a fixed plan: make one."""
    return NewSteps([_row(0, PlanStep(key=PLAN_KEY), StepKind.PLAN, Lane.MODEL, "pure", settings.MODEL_TIMEOUT_S * 3)])


def steps_of(plan: Plan, tools: Mapping[str, ToolSpec]) -> NewSteps:
    """The rows of a checked plan."""
    rows = [_plan_row(n, step, tools) for n, step in enumerate(plan.steps)]
    edges = [{"parent": parent, "child": step.key} for step in plan.steps for parent in step.depends_on]
    answer = None if plan.answer is NO_ANSWER else results.stored(plan.answer)
    return NewSteps(rows, edges, answer)


def _plan_row(n: int, step: PlanStep, tools: Mapping[str, ToolSpec]) -> dict[str, Any]:
    if step.kind == "tool":
        spec = tools[step.tool]
        if spec.approval and not step.approval:  # any of them suffices, none takes it away
            step = replace(step, approval=True)
        return _row(n, step, StepKind.TOOL, Lane(spec.lane), spec.effect, spec.timeout_s)
    if step.kind in ("wait", "ask", "delegate"):
        return _row(n, step, StepKind(step.kind), Lane.SYSTEM, "pure", settings.STEP_TIMEOUT_S)
    return _row(n, step, StepKind(step.kind), Lane.MODEL, "pure", settings.MODEL_TIMEOUT_S)


def _row(n: int, step: PlanStep, kind: StepKind, lane: Lane, effect: str, timeout_s: float) -> dict[str, Any]:
    return {
        "n": n, "key": step.key, "kind": kind.value, "tool": step.tool if kind == StepKind.TOOL else "",
        "title": step.title, "objective": step.objective, "arguments": step.arguments or None,
        "depends_on": list(step.depends_on), "lane": lane.value, "effect": effect, "on_error": step.on_error,
        "if_failed": step.if_failed, "approval": step.approval, "expires_s": step.expires_s,
        "timeout_s": step.timeout_s or timeout_s,
        "max_attempts": step.max_attempts or settings.STEP_MAX_ATTEMPTS, "deps_left": len(step.depends_on),
    }  # fmt: skip


def insert_run(values: Mapping[str, Any], steps: NewSteps) -> Run | None:
    """Write a run, its steps and its first event in one statement; None when its idempotency key is taken."""
    made = db.row(
        SQL["insert_run"],
        **values,
        answer=jsonb(steps.answer),
        open_steps=len(steps.rows),
        active_steps=len(steps.roots),
        steps=Jsonb(steps.rows),
        edges=Jsonb(steps.edges),
    )
    return db.instance(Run, made) if made else None


def insert_steps(change: Change, steps: NewSteps) -> None:
    """Add steps to a locked run, and its answer template; their edges stay among themselves."""
    run = change.run
    run["plan_version"] += 1
    run["answer"] = steps.answer
    db.rows(
        SQL["insert_steps"],
        workspace_id=run["workspace_id"],
        run_id=run["id"],
        plan_version=run["plan_version"],
        priority=run["priority"],
        ready=change.ready.value,
        steps=Jsonb(steps.rows),
        edges=Jsonb(steps.edges),
    )
    run["open_steps"] += len(steps.rows)
    run["active_steps"] += len(steps.roots)
    for lane in steps.roots:
        change.ring(lane)
    change.event("plan.revised", version=run["plan_version"], steps=[row["key"] for row in steps.rows])


__all__ = ["PLAN_KEY", "NewSteps", "insert_run", "insert_steps", "planning_step", "steps_of"]
