"""Filters of the lists: plain form fields, no script, choices from the rows a person may see."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RadioFilter, TextFilter
from unfold.contrib.filters.forms import CheckboxForm, SearchForm
from unfold.widgets import INPUT_CLASSES, UnfoldAdminSelectWidget

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent
from agentsys.dashboard import access

from .base import as_uuid

#: A list of choices longer than this is no help; the search finds the rest.
MAX_CHOICES = 200


class _SelectForm(CheckboxForm):
    field = forms.ChoiceField
    widget = UnfoldAdminSelectWidget


class _DayForm(SearchForm):
    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        self.fields[name].widget = forms.DateInput({"type": "date", "class": " ".join(INPUT_CLASSES)})


class _RowFilter(RadioFilter):
    """One of the rows that another list has, by id."""

    form_class = _SelectForm
    path: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        chosen = as_uuid(self.value())
        return queryset.filter(**{self.path: chosen}) if chosen else queryset.none()


class WorkspaceFilter(_RowFilter):
    """Only of use to somebody who sees several."""

    title, parameter_name, path = "workspace", "workspace", "workspace_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        rows = access.visible(request, Workspace.objects.order_by("name"), "id")[:MAX_CHOICES]
        found = [(str(row.pk), row.name) for row in rows]
        return found if len(found) > 1 else []


class AgentFilter(_RowFilter):
    title, parameter_name, path = "agent", "agent", "agent_version__agent_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        rows = access.visible(request, Agent.objects.order_by("slug").only("id", "slug"))[:MAX_CHOICES]
        return [(str(row.pk), row.slug) for row in rows]


class LabelFilter(TextFilter):
    """``team`` finds runs that have this label, ``team=search`` those where it says so."""

    title, parameter_name = "label (name or name=value)", "label"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name, equals, value = (self.value() or "").replace("\0", "").strip().partition("=")
        if not name:
            return queryset
        if equals:
            return queryset.filter(labels__contains={name: value})
        return queryset.filter(labels__has_key=name)


class _DayFilter(TextFilter):
    form_class = _DayForm
    lookup: str
    days = 0

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        try:
            day = date.fromisoformat(self.value() or "") + timedelta(days=self.days)
        except (ValueError, OverflowError):
            return queryset
        return queryset.filter(**{self.lookup: datetime.combine(day, time(), UTC)})


class FromFilter(_DayFilter):
    title, parameter_name, lookup = "first day (UTC)", "from", "created_at__gte"


class ToFilter(_DayFilter):
    title, parameter_name, lookup, days = "last day (UTC)", "to", "created_at__lt", 1


class _TextFilter(TextFilter):
    """Rows where a column is exactly what was typed."""

    path: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        typed = (self.value() or "").replace("\0", "").strip()
        return queryset.filter(**{self.path: typed}) if typed else queryset


class ToolFilter(_TextFilter):
    title, parameter_name, path = "tool", "tool", "tool"


class ReasonFilter(_TextFilter):
    title, parameter_name, path = "reason, such as poison", "reason", "reason"


class EventTypeFilter(_TextFilter):
    title, parameter_name, path = "type", "type", "type"


ENDS = (
    "succeeded", "failed", "sleeping", "waiting", "cancelled", "crashed", "fenced", "released", "asked", "delegated",
    "unknown", "unverified",
)  # fmt: skip


class OutcomeFilter(_RowFilter):
    """The ends an attempt can take; not read from the rows, which are all of history."""

    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [(end, end) for end in ENDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(outcome=self.value()) if self.value() else queryset


class RunFilter(TextFilter):
    """Rows of one run: how the run's page links to the lists."""

    title, parameter_name, path = "run (its id)", "run", "run_id"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        typed = (self.value() or "").strip()
        run_id = as_uuid(typed)
        if run_id is None:
            return queryset.none() if typed else queryset
        return queryset.filter(**{self.path: run_id})


class RunOfStepFilter(RunFilter):
    """Found through the step, whose table has the index."""

    path = "step__run_id"
