"""What the whole installation does: who works, and how much of what came out."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from agentsys.dashboard import access, text
from agentsys.dashboard.pages import overview
from agentsys.infrastructure import rollup
from agentsys.infrastructure.models import Outcome, Worker

from .base import ReadOnlyAdmin, badge


class _OfInstallation(ReadOnlyAdmin):
    """Rows that belong to no workspace."""

    def get_queryset(self, request: HttpRequest) -> Any:
        return self.model._default_manager.get_queryset()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)


@admin.register(Worker)
class WorkerAdmin(_OfInstallation):
    read_action = "workers.read"
    list_display = ("name", "lane", "state", "host", "pid", "concurrency", "cpu", "memory", "since", "seen")
    list_display_links = None
    list_filter = ("lane",)
    ordering = ("lane", "name")

    @display(description="State")
    def state(self, worker: Worker) -> SafeString:
        return badge(overview.worker_state(worker, timezone.now()))

    @display(description="CPU")
    def cpu(self, worker: Worker) -> str:
        return f"{worker.cpu_percent:.0f} %"

    @display(description="Memory")
    def memory(self, worker: Worker) -> str:
        return text.size(worker.memory_bytes)

    @display(description="Since (UTC)")
    def since(self, worker: Worker) -> str:
        return text.moment(worker.started_at)

    @display(description="Last seen (UTC)")
    def seen(self, worker: Worker) -> str:
        return text.moment(worker.seen_at)


@admin.register(Outcome)
class OutcomeAdmin(_OfInstallation):
    list_display = ("kind", "outcome", "count", "mean")
    list_display_links = None
    ordering = ("kind", "outcome")

    def get_queryset(self, request: HttpRequest) -> Any:
        return rollup.outcomes()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.crosses_workspaces(request)  # totals over all workspaces

    @display(description="Mean duration")
    def mean(self, outcome: Outcome) -> str:
        return text.duration(outcome.seconds / outcome.count) if outcome.count else ""
