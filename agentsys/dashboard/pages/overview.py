"""The first page: what moves, what waits for somebody, who works, what failed.

Every query reads live rows by a partial index, or is bounded; none counts history.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Min, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils import timezone

from agentsys.dashboard import access, links, text
from agentsys.infrastructure import rollup
from agentsys.infrastructure.models import Worker
from agentsys.runs.models import Approval, Run, Step
from agentsys.runs.states import RUN_FINAL, Lane, RunStatus, StepStatus

#: A deeper lane is shown as "more than".
MAX_DEPTH = 1_000
MAX_ROWS, MAX_WORKERS = 8, 100
SILENT_AFTER = timedelta(seconds=60)
POLL_S = 3


def context(request: HttpRequest) -> dict[str, Any]:
    """Everything the page shows, in at most twelve queries."""
    now = timezone.now()
    runs = access.visible(request, Run.objects.all())
    steps = access.visible(request, Step.objects.all())
    seen = (
        Worker.objects.order_by("lane", "name")
        if access.may_somewhere(request, "workers.read")
        else Worker.objects.none()
    )
    workers = list(seen[:MAX_WORKERS])
    counts = _counts(steps)
    return {
        "poll_s": POLL_S,
        "live": _live(runs),
        "lanes": [_lane(steps, lane, counts, workers, now) for lane in Lane],
        "undecided": _undecided(steps),
        "questions": _questions(access.visible(request, Approval.objects.all())),
        "inbox_url": links.to_inbox(),
        "newest": _newest(runs),
        "failures": _failures(runs, now),
        "workers": [_worker(worker, now) for worker in workers],
        "outcomes": _outcomes() if access.crosses_workspaces(request) else [],
        "runs_url": links.listed("runs_run"),
    }


def _live(runs: QuerySet[Run]) -> list[dict[str, Any]]:
    found = runs.filter(finished_at__isnull=True).values_list("status").annotate(n=Count("id")).order_by()
    count = dict(found)
    return [
        {"status": status.value, "count": count.get(status, 0), "url": links.listed("runs_run", status__exact=status)}
        for status in RunStatus
        if status not in RUN_FINAL
    ]


def _counts(steps: QuerySet[Step]) -> Counter[tuple[str, str]]:
    """How many steps of each (lane, status) wait for a slot or run.  One query, of as many rows as are counted."""
    queued = steps.filter(status=StepStatus.QUEUED, held="")
    running = steps.filter(status=StepStatus.RUNNING, lease_expires_at__isnull=False)
    first, *others = (
        found.filter(lane=lane).order_by().values_list("lane", "status")[: MAX_DEPTH + 1]
        for found in (queued, running)
        for lane in Lane
    )
    return Counter(first.union(*others, all=True))


def _depth(steps: int) -> str:
    return f"{steps:,}" if steps <= MAX_DEPTH else f"more than {MAX_DEPTH:,}"


def _lane(
    steps: QuerySet[Step], lane: Lane, counts: Counter[tuple[str, str]], workers: list[Worker], now: datetime
) -> dict[str, Any]:
    ready = steps.filter(lane=lane, status=StepStatus.READY).order_by("fair_key")[: MAX_DEPTH + 1]
    depth = ready.aggregate(n=Count("id"), oldest=Min("ready_at"))
    waited = (now - depth["oldest"]).total_seconds() if depth["oldest"] else None
    slots = sum(
        worker.concurrency for worker in workers if worker.lane == lane and worker_state(worker, now) == "working"
    )
    return {
        "name": lane.value,
        "queued": _depth(counts[lane.value, "queued"]),
        "ready": _depth(depth["n"]),
        "oldest": text.duration(waited),
        "running": _depth(counts[lane.value, "running"]),
        "slots": slots,
        "stuck": bool(depth["n"]) and not slots,
    }


def _undecided(steps: QuerySet[Step]) -> list[dict[str, Any]]:
    waiting = steps.filter(status=StepStatus.WAITING, reason="outcome_unknown").only("id", "key", "tool", "started_at")
    return [
        {
            "key": row.key,
            "tool": text.clip(row.tool, 60),
            "at": text.moment(row.started_at),
            "url": links.to_step(row.pk),
        }
        for row in waiting[:MAX_ROWS]
    ]


def _questions(approvals: QuerySet[Approval]) -> list[dict[str, Any]]:
    found = approvals.filter(decision="").select_related("step").order_by("id")
    return [
        {
            "key": row.step.key,
            "tool": text.clip(row.step.tool, 60),
            "at": text.moment(row.created_at),
            "url": links.to_approval(row.pk),
        }
        for row in found.only("created_at", "step__key", "step__tool")[:MAX_ROWS]
    ]


def _newest(runs: QuerySet[Run]) -> list[dict[str, Any]]:
    rows = runs.annotate(head=Left("goal", 200)).order_by("-id")
    return [
        {
            "goal": text.clip(row.head, 90) or "Fixed plan",
            "status": row.status,
            "at": text.moment(row.created_at),
            "url": links.to_run(row.pk),
        }
        for row in rows.only("id", "status", "created_at")[:MAX_ROWS]
    ]


def _failures(runs: QuerySet[Run], now: datetime) -> list[dict[str, Any]]:
    """The last runs that failed in the last day: its part of the index by id, which is by time."""
    recent = runs.filter(status=RunStatus.FAILED, id__gte=_first_id(now - timedelta(days=1)))
    rows = recent.annotate(head=Left("goal", 200), error_text=Left(KT("error__message"), 300)).order_by("-id")
    return [
        {
            "goal": text.clip(row.head, 90) or "Fixed plan",
            "reason": row.reason,
            "error": text.clip(row.error_text or "", 160),
            "at": text.moment(row.finished_at),
            "url": links.to_run(row.pk),
        }
        for row in rows.only("id", "reason", "finished_at")[:MAX_ROWS]
    ]


def _first_id(at: datetime) -> UUID:
    """The smallest id a run made at this time can have: ids begin with their milliseconds."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def worker_state(worker: Worker, now: datetime) -> str:
    """``working``, ``draining``, or ``silent``: gone, or without a database."""
    if now - worker.seen_at > SILENT_AFTER:
        return "silent"
    return "draining" if worker.draining else "working"


def _worker(worker: Worker, now: datetime) -> dict[str, Any]:
    return {
        "name": text.clip(worker.name, 60),
        "lane": worker.lane,
        "state": worker_state(worker, now),
        "slots": worker.concurrency,
        "cpu": f"{worker.cpu_percent:.0f} %",
        "memory": text.size(worker.memory_bytes),
        "seen": text.duration((now - worker.seen_at).total_seconds()),
    }


def _outcomes() -> list[dict[str, Any]]:
    return [
        {
            "kind": row.kind,
            "outcome": row.outcome,
            "count": f"{row.count:,}",
            "mean": text.duration(row.seconds / row.count) if row.count else "",
        }
        for row in rollup.outcomes()[:50]
    ]
