"""Steps and their attempts, and the decision about a call that may or may not have happened."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display

from agentsys.core.errors import AgentSysError
from agentsys.dashboard import access, links, text
from agentsys.dashboard.pages import step_page
from agentsys.dashboard.pages.run_page import took_s
from agentsys.runs import services
from agentsys.runs.models import Attempt, Step

from . import filters
from .base import ReadOnlyAdmin, as_uuid, badge


class ResolveForm(forms.Form):
    """What came of a call whose worker was lost after it had begun."""

    outcome = forms.ChoiceField(
        widget=forms.RadioSelect,
        choices=[
            ("done", "It happened: take the result below and go on"),
            ("not_done", "It did not happen: run it again"),
            ("failed", "Neither can be told, or it must not be: let the step fail"),
        ],
    )
    result = forms.CharField(
        required=False, strip=False, max_length=1_000_000, widget=forms.Textarea({"rows": 5}), label="Result (JSON)"
    )

    def clean_result(self) -> Any:
        written = self.cleaned_data["result"].strip()
        try:
            return json.loads(written) if written else None
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError('This is not JSON. A text needs its quotes: "sent".') from error


def run_link(run_id: Any) -> SafeString:
    """A run's id as the link to its page."""
    return format_html('<a class="as-link" href="{}">{}</a>', links.to_run(run_id), str(run_id)[-12:])


@admin.register(Step)
class StepAdmin(ReadOnlyAdmin):
    list_display = ("key_head", "status_badge", "does", "lane", "run_page", "attempt", "started", "took")
    list_defer = ("objective", "arguments", "output", "error", "usage", "depends_on")
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("lane", ChoicesCheckboxFilter),
        ("kind", ChoicesCheckboxFilter),
        filters.RunFilter,
        filters.ToolFilter,
        filters.WorkspaceFilter,
    )
    ordering = ("-id",)
    search_fields = ("key", "run__id")
    search_help_text = "A step's key, or a run's id"

    def found(self, rows: QuerySet[Step], term: str) -> QuerySet[Step]:
        run_id = as_uuid(term)
        return rows.filter(run_id=run_id) if run_id else rows.filter(key=term) if term else rows

    @display(description="Step")
    def key_head(self, step: Step) -> str:
        return f"{step.key} · {text.clip(step.title, 60)}" if step.title else step.key

    @display(description="Status")
    def status_badge(self, step: Step) -> SafeString:
        return badge(step.status)

    @display(description="Does")
    def does(self, step: Step) -> str:
        return text.clip(step.tool or step.kind, 40)

    @display(description="Run")
    def run_page(self, step: Step) -> SafeString:
        return run_link(step.run_id)

    @display(description="Started (UTC)")
    def started(self, step: Step) -> str:
        return text.moment(step.started_at)

    @display(description="Took")
    def took(self, step: Step) -> str:
        return text.duration(took_s(step, timezone.now()))

    # --- The page -----------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        resolve = self.admin_site.admin_view(require_POST(self.resolve_view))
        own = [path("<int:step_id>/resolve/", resolve, name="runs_step_resolve")]
        return own + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        step = self.get_object(request, unquote(object_id))
        context = self._context(request, step, ResolveForm()) if step is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})
        return answer

    def resolve_view(self, request: HttpRequest, step_id: int) -> HttpResponse:
        """Tell the engine what came of the call, through the service."""
        step: Step | None = self.get_object(request, str(step_id))
        if step is None:
            raise Http404
        user = access.require(request, "runs.resolve", step.workspace_id)
        form = ResolveForm(request.POST)
        if not form.is_valid():
            context = {**self.admin_site.each_context(request), "title": step.key}
            context |= self._context(request, step, form)
            return TemplateResponse(request, "dashboard/resolve.html", context, status=422)
        try:
            services.resolve(step.run, step.key, user=user, **form.cleaned_data)
        except AgentSysError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, step, f"Resolved: {form.cleaned_data['outcome']}.")
            messages.success(request, "Decided; the run goes on from here.")
        return redirect(links.to_run(step.run_id))

    def _context(self, request: HttpRequest, step: Step, form: ResolveForm) -> dict[str, Any]:
        may = step_page.is_undecided(step) and access.may(request, "runs.resolve", step.workspace_id)
        return {**step_page.context(step), "resolve_form": form if may else None}


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("step_key", "outcome_badge", "number", "run_page", "worker_head", "started", "took", "task")
    list_display_links = None
    list_select_related = ("step",)
    list_filter = (filters.OutcomeFilter, filters.RunOfStepFilter, filters.WorkspaceFilter)
    ordering = ("-step_id", "-number")  # by the index on step: attempts have no index by time
    search_fields = ("id", "run__id")
    search_help_text = "An attempt's (task's) id, or a run's id"

    def lean(self, rows: QuerySet[Attempt]) -> QuerySet[Attempt]:
        shown = ("id", "workspace_id", "run_id", "number", "worker", "outcome", "started_at", "ended_at")
        return rows.only(*shown, "step__key", "step__run_id")

    def found(self, rows: QuerySet[Attempt], term: str) -> QuerySet[Attempt]:
        if not term:
            return rows
        wanted = as_uuid(term)
        if wanted is None:
            return rows.none()
        its_own = rows.filter(pk=wanted)
        return its_own if its_own.exists() else rows.filter(step__run_id=wanted)

    @display(description="Step")
    def step_key(self, attempt: Attempt) -> SafeString:
        return format_html('<a class="as-link" href="{}">{}</a>', links.to_step(attempt.step_id), attempt.step.key)

    @display(description="Outcome")
    def outcome_badge(self, attempt: Attempt) -> SafeString:
        return badge(attempt.outcome)

    @display(description="Run")
    def run_page(self, attempt: Attempt) -> SafeString:
        return run_link(attempt.run_id)

    @display(description="Worker")
    def worker_head(self, attempt: Attempt) -> str:
        return text.clip(attempt.worker, 60)

    @display(description="Started (UTC)")
    def started(self, attempt: Attempt) -> str:
        return text.moment(attempt.started_at)

    @display(description="Took")
    def took(self, attempt: Attempt) -> str:
        if attempt.started_at is None:
            return ""
        return text.duration((attempt.ended_at - attempt.started_at).total_seconds())

    @display(description="Flower")
    def task(self, attempt: Attempt) -> str:
        url = links.to_task(attempt.pk)
        return format_html('<a class="as-link" href="{}" rel="noreferrer">task</a>', url) if url else ""
