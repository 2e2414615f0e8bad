"""How long workspaces keep their history, where they have times of their own; set by the service that the command uses.

The row without a workspace only pauses all; a superuser sees it.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldBooleanSwitchWidget

from agentsys.accounts.models import Workspace
from agentsys.dashboard import access
from agentsys.runs import retention
from agentsys.runs.models import Retention

from . import filters
from .by_service import SavedByService

DAYS = ("runs_days", "history_days", "keys_days")


def _days(label: str, help_text: str, never: str = "as long as their runs") -> forms.FloatField:
    return forms.FloatField(
        label=f"{label}, days",
        required=False,
        min_value=0,
        max_value=retention.MAX_DAYS,
        help_text=f"{help_text}  Empty: as the installation has it; 0: {never}.",
        widget=UnfoldAdminDecimalFieldWidget,
    )


class RetentionForm(forms.ModelForm):
    """Whose history, and how long each part of it is kept."""

    runs_days = _days("Runs", "Finished runs with all that belongs to them.", "for ever")
    history_days = _days("Events and attempts", "Where these leave before their runs.")
    keys_days = _days("Idempotency keys", "Where these may be used anew before their runs leave.")
    paused = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget, help_text="Nothing leaves by itself.")

    class Meta:
        model = Retention
        fields = ("workspace", *DAYS, "paused")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        workspace = self.instance.workspace_id if self.instance.pk else data.get("workspace")
        for name in DAYS:
            if workspace is None and "workspace" not in self.errors and data.get(name) is not None:
                self.add_error(name, "The installation's own times are settings: AGENTSYS_KEEP_…_DAYS.")
        return data


@admin.register(Retention)
class RetentionAdmin(SavedByService):
    read_action, write_action = "retention.read", "retention.write"
    form = RetentionForm
    list_display = ("whose", "runs_kept", "history_kept", "keys_kept", "paused")
    list_select_related = ("workspace",)
    list_filter = (filters.WorkspaceFilter,)
    ordering = ("workspace__slug",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Retention]:
        return super().get_queryset(request).select_related("workspace")

    def get_fields(self, request: HttpRequest, obj: Retention | None = None) -> tuple[str, ...]:
        return ("whose", *DAYS, "paused") if obj else ("workspace", *DAYS, "paused")

    def get_readonly_fields(self, request: HttpRequest, obj: Retention | None = None) -> tuple[str, ...]:
        return ("whose",) if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = access.writable(request, self.write_action or "", Workspace.objects.order_by("name"), "id")
        kwargs["required"] = not access.crosses_workspaces(request)
        field: Any = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if not field.required:
            field.empty_label = "all workspaces (only pauses)"
        return field

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.write_action, obj)

    def apply(self, request: HttpRequest, obj: Retention, form: RetentionForm, *, change: bool) -> Any:
        """Of a row that is there only what was changed."""
        names = [name for name in (*DAYS, "paused") if not change or name in form.changed_data]
        values = {name: form.cleaned_data[name] for name in names}
        return retention.set_policy(obj.workspace_id, user=_person(request), **values).pk

    def delete_model(self, request: HttpRequest, obj: Retention) -> None:
        retention.drop_policy(obj.workspace_id, user=_person(request))

    @display(description="Whose")
    def whose(self, row: Retention) -> str:
        return row.workspace.slug if row.workspace else "all workspaces"

    @display(description="Runs")
    def runs_kept(self, row: Retention) -> str:
        return _kept(row.runs_days, "runs")

    @display(description="Events and attempts")
    def history_kept(self, row: Retention) -> str:
        return _kept(row.history_days, "history")

    @display(description="Idempotency keys")
    def keys_kept(self, row: Retention) -> str:
        return _kept(row.keys_days, "keys")


def _kept(days: float | None, name: str) -> str:
    """In words: a workspace's own time, or the installation's."""
    found = retention.policy()[name] if days is None else days
    told = f"{found:g} days" if found else "for ever" if name == "runs" else "as long as their runs"
    return f"{told} (the installation's)" if days is None else told


def _person(request: HttpRequest) -> Any:
    return request.user
