"""What waits for a person: an inbox, a page each, and the decisions, taken by the services REST calls."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display

from agentsys.accounts.models import User
from agentsys.core.errors import AgentSysError, InvalidInput, PayloadTooLarge
from agentsys.dashboard import access, links, text
from agentsys.dashboard.pages import approval_page
from agentsys.runs import approvals
from agentsys.runs.models import Approval

from . import filters
from .base import ReadOnlyAdmin, as_uuid, badge
from .steps import run_link

MAX_TYPED_CHARS = 1_500_000


class DecideForm(forms.Form):
    """What every decision says: of which digest, and from where."""

    digest = forms.CharField(max_length=64)
    inbox = forms.BooleanField(required=False)


class DenyForm(DecideForm):
    reason = forms.CharField(required=False, max_length=approvals.MAX_REASON_CHARS)


class EditForm(DecideForm):
    typed = forms.CharField(strip=False, max_length=MAX_TYPED_CHARS)

    def clean_typed(self) -> Any:
        try:
            return json.loads(self.cleaned_data["typed"])
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError('This is not JSON. A text needs its quotes: "eve".') from error


class TextForm(DecideForm):
    typed = forms.CharField(required=False, strip=False, max_length=MAX_TYPED_CHARS)

    def clean_typed(self) -> str:
        return str(self.cleaned_data["typed"]).replace("\r\n", "\n")


Decide = Callable[[Approval, User, Mapping[str, Any]], Approval]
#: Word -> how it is done and what is said then.
_DECISIONS: Mapping[str, tuple[Decide, str]] = {
    "approve": (
        lambda one, user, data: approvals.approve(one, user=user, digest=data["digest"]),
        "Approved; the call is made.",
    ),
    "edit": (
        lambda one, user, data: approvals.edit(one, user=user, digest=data["digest"], arguments=data["typed"]),
        "Approved as edited; the call is made with these arguments.",
    ),
    "deny": (
        lambda one, user, data: approvals.deny(one, user=user, digest=data["digest"], reason=data["reason"]),
        "Denied.",
    ),
    "answer": (
        lambda one, user, data: approvals.answer(one, user=user, digest=data["digest"], answer=data["typed"]),
        "Answered; the run goes on.",
    ),
}


def _form(word: str, approval: Approval, posted: Any) -> DecideForm:
    if word == "answer":
        is_text = approval_page.takes_text((approval.arguments or {}).get("schema"))
        return (TextForm if is_text else EditForm)(posted)
    return {"edit": EditForm, "deny": DenyForm}.get(word, DecideForm)(posted)


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("step_head", "decision_badge", "asks", "run_page", "asked", "decided", "by")
    list_filter = (("decision", ChoicesCheckboxFilter), filters.RunFilter, filters.WorkspaceFilter)
    ordering = ("-id",)
    search_fields = ("id", "run__id")
    search_help_text = "A run's id, or an approval's"

    def lean(self, rows: QuerySet[Approval]) -> QuerySet[Approval]:
        return approvals.lean(rows)

    def found(self, rows: QuerySet[Approval], term: str) -> QuerySet[Approval]:
        if not term:
            return rows
        wanted = as_uuid(term)
        if wanted is None:
            return rows.none()
        its_own = rows.filter(pk=wanted)
        return its_own if its_own.exists() else rows.filter(run_id=wanted)

    @display(description="Step")
    def step_head(self, approval: Approval) -> str:
        return approval.step.key

    @display(description="Decision")
    def decision_badge(self, approval: Approval) -> SafeString:
        return badge(approval.decision or "open")

    @display(description="Asks")
    def asks(self, approval: Approval) -> SafeString:
        shown = text.compact(approval.short_arguments, 120) or "(large)"  # type: ignore[attr-defined]
        return format_html("<bdi>{} {}</bdi>", text.clip(approval.step.tool, 60), shown)

    @display(description="Run")
    def run_page(self, approval: Approval) -> SafeString:
        return run_link(approval.run_id)

    @display(description="Asked (UTC)")
    def asked(self, approval: Approval) -> str:
        return text.moment(approval.created_at)

    @display(description="Decided (UTC)")
    def decided(self, approval: Approval) -> str:
        return text.moment(approval.decided_at)

    @display(description="By")
    def by(self, approval: Approval) -> str:
        return text.clip(approval.decided_by or "", 40)

    # --- The pages ----------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        decide = self.admin_site.admin_view(require_POST(self.decide_view))
        own = [
            path("inbox/", self.admin_site.admin_view(self.inbox_view), name="runs_approval_inbox"),
            *(
                path(f"<uuid:approval_id>/{word}/", decide, {"word": word}, name=f"runs_approval_{word}")
                for word in _DECISIONS
            ),
        ]
        return own + super().get_urls()

    def inbox_view(self, request: HttpRequest) -> HttpResponse:
        """All that waits for a decision, with the decisions this person may take."""
        rows = self.get_queryset(request)
        shown = approval_page.inbox(rows, lambda workspace: access.may(request, "approvals.decide", workspace))
        context = {**self.admin_site.each_context(request), "title": "Approvals", **shown}
        return TemplateResponse(request, "dashboard/inbox.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        approval = self.get_object(request, unquote(object_id))
        context = {"card": self._card(request, approval)} if approval is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})
        return answer

    def decide_view(self, request: HttpRequest, approval_id: UUID, word: str) -> HttpResponse:
        """Take a decision; what was typed and does not fit comes back to be corrected."""
        seen: Approval | None = self.get_object(request, str(approval_id))
        if seen is None:
            raise Http404
        user = access.require(request, "approvals.decide", seen.workspace_id)
        approval = approvals.get(seen.workspace_id, seen.pk)
        form = _form(word, approval, request.POST)
        if not form.is_valid():
            return self._again(request, approval, [str(fault) for faults in form.errors.values() for fault in faults])
        decide, done = _DECISIONS[word]
        try:
            decide(approval, user, form.cleaned_data)
        except (InvalidInput, PayloadTooLarge) as error:
            return self._again(request, approval, _told(error))
        except AgentSysError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, approval, f"Decided: {word}.")
            messages.success(request, done)
        return redirect(links.to_inbox() if form.cleaned_data["inbox"] else links.to_run(approval.run_id))

    def _again(self, request: HttpRequest, approval: Approval, faults: list[str]) -> HttpResponse:
        typed = request.POST.get("typed", "")[:MAX_TYPED_CHARS]
        card = self._card(request, approval, faults=faults, typed=typed)
        context = {**self.admin_site.each_context(request), "title": approval.step.key, "card": card}
        return TemplateResponse(request, "dashboard/approval.html", context, status=422)

    def _card(self, request: HttpRequest, approval: Approval, **more: Any) -> dict[str, Any]:
        may = access.may(request, "approvals.decide", approval.workspace_id)
        return approval_page.card(approval, may=may, arguments=approval.arguments, **more)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        return super().get_queryset(request).select_related("step", "decided_by")


def _told(error: AgentSysError) -> list[str]:
    faults = [f"{fault['path']}: {fault['message']}" for fault in error.data.get("errors", ())]
    return [text.clip(fault, 500) for fault in faults] or [error.message]
