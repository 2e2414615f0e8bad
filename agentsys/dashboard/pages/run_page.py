"""One run on one page: what moves (asked for again while it does), and what does not."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.fields.json import KT
from django.db.models.functions import Left
from django.utils import timezone

from agentsys.dashboard import links, text
from agentsys.infrastructure import registry
from agentsys.runs import blockers, budgets
from agentsys.runs.delegation import with_child
from agentsys.runs.models import Approval, Attempt, Event, Run, RunFile, Step
from agentsys.runs.states import RUN_FINAL, STEP_FINAL, ApprovalKind, StepStatus

from . import plan_view

#: Rows of each table on the page; the lists have the rest.
MAX_STEPS_SHOWN, MAX_ATTEMPTS_SHOWN, MAX_EVENTS_SHOWN, MAX_FILES_SHOWN = 200, 100, 100, 100
MAX_GOAL_CHARS, MAX_LABELS, MAX_QUESTIONS, MAX_BLOCKERS = 4_000, 50, 50, 5
#: A plan too large to be drawn is asked for less often.
POLL_S, POLL_LARGE_S = 1, 4
_STEP_COLUMNS = (
    *("id", "workspace_id", "run_id", "key", "kind", "tool", "title", "depends_on", "lane", "plan_version"),
    *("status", "reason", "attempt", "failures", "crashes", "max_attempts", "available_at", "claim_token"),
    *("lease_owner", "claimed_at", "ready_at", "started_at", "finished_at"),
)


def steps_of(run_id: UUID) -> list[Step]:
    """All steps of a run in plan order, without their documents; each has ``error_text`` and ``child_run_id``."""
    error_text = Left(KT("error__message"), 300)
    found = with_child(Step.objects.filter(run_id=run_id).only(*_STEP_COLUMNS))
    return list(found.annotate(error_text=error_text).order_by("id"))


def moving(run: Run, *, buttons: Sequence[tuple[str, Any]], may_resolve: bool, may_decide: bool) -> dict[str, Any]:
    """What changes while the run goes on.  Six queries (seven if a person is asked), whatever the run's size."""
    steps, now = steps_of(run.pk), timezone.now()
    final = run.status in RUN_FINAL
    return {
        "run": run,
        "final": final,
        "poll_s": POLL_LARGE_S if len(steps) > MAX_STEPS_SHOWN else POLL_S,
        "goal": text.block(run.goal, MAX_GOAL_CHARS),
        "labels": [(text.clip(k, 80), text.clip(v, 200)) for k, v in list(run.labels.items())[:MAX_LABELS]],
        "facts": _facts(run, steps, now),
        "budgets": budgets_of(run),
        "blockers": _blockers(run),
        "elapsed_s": None if final or not run.started_at else (now - run.started_at).total_seconds(),
        "error": _error(run.error),
        "result": text.pretty(run.result) if run.status == "succeeded" else "",
        "buttons": [{"url": links.to_run_part(run.pk, name), "act": act} for name, act in buttons],
        "may_resolve": may_resolve,
        "may_decide": may_decide,
        "unfunded": [step for step in steps if (step.status, step.reason) == (StepStatus.WAITING, "budget")][:3],
        "undecided": [step for step in steps if _is_undecided(step)],
        "questions": _questions(run, steps),
        "plan": plan_view.of(steps),
        "steps": [_step_row(step, run, now) for step in _shown(steps)],
        "steps_left_out": max(0, len(steps) - MAX_STEPS_SHOWN),
        "attempts": attempts_of(steps),
        "events": _events(run),
        "files": _files(run),
        "flower": links.to_flower(),
        "more": {name: links.listed(f"runs_{name}", run=run.pk) for name in ("step", "attempt", "event", "runfile")},
    }


def still(run: Run) -> dict[str, Any]:
    """What was submitted, as (title, text) pairs; only what there is."""
    given = {
        "Input": run.input,
        "Submitted plan": run.plan,
        "Answer template": (run.answer or {}).get("template") if isinstance(run.answer, dict) else None,
        "Output schema": run.output_schema,
        "Limits": run.limits or None,
    }
    return {"submitted": [(title, text.pretty(value)) for title, value in given.items() if value is not None]}


def _facts(run: Run, steps: Sequence[Step], now: datetime) -> list[tuple[str, str]]:
    ended = run.finished_at or now
    done = sum(step.status in STEP_FINAL for step in steps)
    facts = [
        ("Created (UTC)", text.moment(run.created_at)),
        ("Waited", text.duration(((run.started_at or ended) - run.created_at).total_seconds())),
        ("Ran", text.duration((ended - run.started_at).total_seconds()) if run.started_at else ""),
        ("Steps", f"{done} of {len(steps)} done"),
        ("Model calls", f"{run.model_calls:,}" if run.model_calls else ""),
        ("Tokens", f"{run.input_tokens:,} in, {run.output_tokens:,} out" if run.model_calls else ""),
        ("Cost", f"$ {run.cost_usd:.4f}" if run.cost_usd else ""),
        ("Tool calls", f"{run.tool_calls:,}" if run.tool_calls else ""),
        ("Deadline (UTC)", text.moment(run.deadline_at)),
        ("Priority", f"{run.priority:+d}" if run.priority else ""),
        ("Submitted by", text.clip(run.created_by or "", 60)),
    ]
    return [(name, value) for name, value in facts if value]


def budgets_of(run: Run) -> list[dict[str, str]]:
    """Every budget that the run counts on, in words."""
    whose = {"run": "this run", "parent": "a run above it", "workspace": "the workspace"}
    return [
        {
            "name": line.kind.replace("_usd", "").replace("time_s", "time"),
            "whose": whose.get(line.scope) or f"agent {line.agent}",
            **{name: _amount(line.kind, getattr(line, name)) for name in ("limit", "spent", "reserved", "over")},
            "percent": f"{100 * line.spent / line.limit:.0f} %" if line.limit else "",
        }
        for line in budgets.of_run(run)
    ]


def _amount(kind: str, value: float) -> str:
    if kind == "time_s":
        return text.duration(value)
    return f"$ {value:,.4f}" if kind == "cost_usd" else f"{value:,.0f}"


def _blockers(run: Run) -> list[dict[str, str]]:
    """Why the run is not moving, or where it is being worked on; the first says it in one sentence."""
    return [
        {
            "kind": one.kind.replace("_", " "),
            "message": text.clip(one.message, 400),
            "since": text.moment(one.since),
            "unblock": text.clip(one.unblock, 200),
        }
        for one in blockers.of(run, live_lanes=registry.live_lanes()).found[:MAX_BLOCKERS]
    ]


def _error(error: Any) -> dict[str, str] | None:
    if not isinstance(error, dict):
        return None
    return {
        "code": text.clip(error.get("code", ""), 60),
        "message": text.block(str(error.get("message", "")), 4_000),
        "data": text.pretty(error["data"], 4_000) if error.get("data") else "",
    }


def _is_undecided(step: Step) -> bool:
    return step.status == StepStatus.WAITING and step.reason == "outcome_unknown"


def _questions(run: Run, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """What the run's steps ask of a person; no query where none does."""
    if not any(step.status == StepStatus.WAITING and step.reason in ApprovalKind for step in steps):
        return []
    found = Approval.objects.filter(run_id=run.pk, decision="").select_related("step").order_by("id")
    return [
        {"key": row.step.key, "tool": text.clip(row.step.tool, 100), "url": links.to_approval(row.pk)}
        for row in found.only("step__key", "step__tool")[:MAX_QUESTIONS]
    ]


def _shown(steps: Sequence[Step]) -> Sequence[Step]:
    """In plan order; of too many, those that still move or went wrong come first."""
    if len(steps) <= MAX_STEPS_SHOWN:
        return steps
    uneventful = {StepStatus.SUCCEEDED: 1, StepStatus.SKIPPED: 1, StepStatus.BLOCKED: 2}
    return sorted(steps, key=lambda step: uneventful.get(StepStatus(step.status), 0))[:MAX_STEPS_SHOWN]


def _step_row(step: Step, run: Run, now: datetime) -> dict[str, Any]:
    return {
        "key": step.key,
        "title": text.clip(step.title, 80),
        "what": text.clip(step.tool or step.kind, 60),
        "lane": step.lane,
        "status": step.status,
        "reason": step.reason,
        "attempts": step.attempt,
        "took": text.duration(took_s(step, now)),
        "error": text.clip(step.error_text or "", 200),  # type: ignore[attr-defined]
        "retry_at": text.moment(step.available_at) if step.status == StepStatus.SLEEPING else "",
        "url": links.to_step(step.pk),
        "child": links.to_run(step.child_run_id) if step.child_run_id else "",  # type: ignore[attr-defined]
        "bar": _bar(step, run, now),
    }


def took_s(step: Step, now: datetime) -> float | None:
    """Seconds from the first start to the end, or until now."""
    if step.started_at is None:
        return None
    return ((step.finished_at or now) - step.started_at).total_seconds()


def _bar(step: Step, run: Run, now: datetime) -> tuple[float, float] | None:
    """Where in the run's time the step lies: start and length in percent."""
    if step.started_at is None or run.started_at is None:
        return None
    whole_s = max(((run.finished_at or now) - run.started_at).total_seconds(), 0.001)
    start = min(max((step.started_at - run.started_at).total_seconds() / whole_s, 0.0), 0.99)
    length = min(max((took_s(step, now) or 0.0) / whole_s, 0.01), 1.0 - start)
    return round(start * 100, 2), round(length * 100, 2)


def attempts_of(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The last attempts of these steps, newest first, those still running before all others."""
    keys = {step.pk: step.key for step in steps}
    of_runs = Attempt.objects.filter(run_id__in={step.run_id for step in steps})  # by the index that there is
    ended = of_runs.filter(step_id__in=keys).annotate(error_text=Left(KT("error__message"), 300))
    rows = [
        _attempt_row(step.claim_token, step.key, step.attempt, step.lease_owner, "running", step.claimed_at)
        for step in steps
        if step.status == StepStatus.RUNNING and step.claim_token
    ]
    for row in ended.order_by("-ended_at")[:MAX_ATTEMPTS_SHOWN]:
        key = keys[row.step_id]
        rows.append(
            _attempt_row(row.pk, key, row.number, row.worker, row.outcome, row.started_at, row.ended_at, row.error_text)
        )
    return rows


def _attempt_row(
    attempt_id: UUID,
    key: str,
    number: int,
    worker: str,
    outcome: str,
    started_at: datetime | None,
    ended_at: datetime | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    seconds = (ended_at - started_at).total_seconds() if started_at and ended_at else None
    return {
        "step": key,
        "number": number,
        "worker": text.clip(worker, 80),
        "outcome": outcome,
        "started": text.moment(started_at),
        "took": text.duration(seconds),
        "error": text.clip(error or "", 200),
        "task": links.to_task(attempt_id),
    }


def _events(run: Run) -> list[dict[str, Any]]:
    newest = Event.objects.filter(run_id=run.pk).order_by("-seq")[:MAX_EVENTS_SHOWN]
    start = run.created_at
    return [
        {
            "seq": event.seq,
            "type": event.type,
            "step": event.step,
            "after": text.duration((event.at - start).total_seconds()),
            "at": text.moment(event.at),
            "data": text.compact(event.data),
        }
        for event in newest
    ]


def _files(run: Run) -> list[dict[str, Any]]:
    rows = RunFile.objects.filter(run_id=run.pk).annotate(bytes=F("payload__size_bytes")).order_by("name")
    return [
        {
            "name": text.clip(row.name, 120),
            "size": text.size(row.bytes),
            "by": row.written_by or "came with the run",
            "at": text.moment(row.written_at),
            "url": links.to_file(row.pk),
        }
        for row in rows[:MAX_FILES_SHOWN]
    ]
