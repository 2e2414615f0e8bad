"""Runs: the list, and the page that follows one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display

from agentsys.dashboard import access, text
from agentsys.dashboard.pages import run_page
from agentsys.runs.models import Run

from . import filters, run_control
from .base import as_uuid, badge

HEAD_CHARS = 120


@admin.register(Run)
class RunAdmin(run_control.ControlledAdmin):
    list_display = ("goal_head", "status_badge", "agent", "created", "took", "progress")
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        filters.ReasonFilter,
        filters.AgentFilter,
        filters.WorkspaceFilter,
        filters.LabelFilter,
        filters.FromFilter,
        filters.ToFilter,
    )
    search_fields = ("id", "goal")
    search_help_text = "Part of the goal, or a run's id"

    # --- The list -----------------------------------------------------------------
    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        several = access.crosses_workspaces(request) or len(access.roles(request)) > 1
        return (*self.list_display, "workspace") if several else self.list_display

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first: ids sort by time, and both indexes that serve the list end with them."""
        return ("-id",)

    def lean(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        shown = ("id", "status", "created_at", "started_at", "finished_at", "steps_done", "open_steps")
        related = ("workspace__name", "agent_version__number", "agent_version__agent__slug")
        rows = rows.select_related(None).select_related("workspace", "agent_version__agent").only(*shown, *related)
        return rows.annotate(head=Left("goal", HEAD_CHARS * 2))

    def found(self, rows: QuerySet[Run], term: str) -> QuerySet[Run]:
        run_id = as_uuid(term)
        return rows.filter(pk=run_id) if run_id else rows.filter(goal__icontains=term) if term else rows

    @display(description="Goal")
    def goal_head(self, run: Run) -> str:
        return text.clip(run.head, HEAD_CHARS) or f"Fixed plan {str(run.pk)[-12:]}"  # type: ignore[attr-defined]

    @display(description="Status")
    def status_badge(self, run: Run) -> SafeString:
        return badge(run.status)

    @display(description="Agent")
    def agent(self, run: Run) -> str:
        return f"{run.agent_version.agent.slug} v{run.agent_version.number}"

    @display(description="Created (UTC)")
    def created(self, run: Run) -> str:
        return text.moment(run.created_at)

    @display(description="Took")
    def took(self, run: Run) -> str:
        return text.duration(_ran_s(run, timezone.now()))

    @display(description="Steps done")
    def progress(self, run: Run) -> str:
        return f"{run.steps_done} of {run.steps_done + run.open_steps}" if run.open_steps else f"{run.steps_done}"

    # --- The page -----------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        own = [path("<uuid:run_id>/live/", self.admin_site.admin_view(self.live_view), name="runs_run_live")]
        return own + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, unquote(object_id))
        context = {**self._moving(request, run), **run_page.still(run)} if run is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})
        return answer

    def live_view(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """The moving part of the page, or 204 when nothing has happened since event ``?seq=``."""
        run = self.run_or_404(request, run_id)
        if request.GET.get("seq") == str(run.event_seq):
            return HttpResponse(status=204)
        return TemplateResponse(request, "dashboard/run_live.html", self._moving(request, run))

    def _moving(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        return run_page.moving(
            run,
            buttons=run_control.buttons(request, run),
            may_resolve=access.may(request, "runs.resolve", run.workspace_id),
            may_decide=access.may(request, "approvals.decide", run.workspace_id),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).select_related("agent_version__agent", "created_by")


def _ran_s(run: Run, now: datetime) -> float | None:
    return ((run.finished_at or now) - run.started_at).total_seconds() if run.started_at else None
