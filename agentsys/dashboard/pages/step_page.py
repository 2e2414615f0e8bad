"""One step on one page: what it was given, what it gave, and every attempt."""

from typing import Any

from django.utils import timezone

from agentsys.dashboard import links, text
from agentsys.runs.models import Run, Step
from agentsys.runs.states import MODEL_KINDS, StepKind, StepStatus

from .run_page import attempts_of, took_s


def is_undecided(step: Step) -> bool:
    """Whether it waits for somebody to say what came of its call."""
    return step.status == StepStatus.WAITING and step.reason == "outcome_unknown"


def context(step: Step) -> dict[str, Any]:
    """Everything the page shows.  Two queries beside the step's own, three for a delegate step."""
    step.error_text = None  # type: ignore[attr-defined]  # attempts carry their own
    parents = Step.objects.filter(run_id=step.run_id, key__in=step.depends_on).only("id", "key", "status")
    return {
        "step": step,
        "run_url": links.to_run(step.run_id),
        "child_url": _child_url(step),
        "title_text": text.block(step.title or step.objective, 1_000),
        "parents": [{"key": row.key, "status": row.status, "url": links.to_step(row.pk)} for row in parents],
        "facts": [(name, value) for name, value in _facts(step) if value],
        "documents": [(name, text.pretty(value)) for name, value in _documents(step) if value is not None],
        "attempts": attempts_of([step]),
        "flower": links.to_flower(),
        "model_calls_url": links.listed("runs_modelcall", run=step.run_id) if step.kind in MODEL_KINDS else "",
    }


def _child_url(step: Step) -> str:
    if step.kind != StepKind.DELEGATE:
        return ""
    child = Run.objects.filter(parent_step=step.pk).values_list("pk", flat=True).first()
    return links.to_run(child) if child else ""


def _facts(step: Step) -> list[tuple[str, str]]:
    return [
        ("Kind", step.kind),
        ("Tool", text.clip(step.tool, 100)),
        ("Effect", step.effect if step.tool else ""),
        ("Lane", step.lane),
        ("Ready (UTC)", text.moment(step.ready_at)),
        ("Started (UTC)", text.moment(step.started_at)),
        ("Took", text.duration(took_s(step, timezone.now()))),
        ("Tries", f"{step.attempt}" if step.attempt else ""),
        ("Failures", f"{step.failures} of {step.max_attempts}" if step.failures else ""),
        ("Crashes", f"{step.crashes} of 3" if step.crashes else ""),
        ("Goes on by itself (UTC)", text.moment(step.available_at) if step.status == StepStatus.SLEEPING else ""),
        ("Time limit", text.duration(step.timeout_s)),
        ("Call began (UTC)", text.moment(step.effect_started_at)),
        ("Idempotency key", step.idempotency_key if step.tool else ""),
    ]


def _documents(step: Step) -> list[tuple[str, Any]]:
    return [
        ("Error", step.error),
        ("Output", step.output),
        ("Arguments, as planned", step.arguments),
        ("Objective", step.objective or None),
        ("Usage", step.usage),
    ]
