"""Lanes: how many steps a workspace may have ready or running in each, and its share; set by the same service as REST.

A lane that a workspace has neither used nor set has no row, and the installation's limit.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from agentsys.accounts.models import Workspace
from agentsys.dashboard import access
from agentsys.runs import lanes
from agentsys.runs.models import LaneSlot
from agentsys.runs.states import Lane

from . import filters
from .by_service import SavedByService

LANES = [(lane.value, lane.value) for lane in Lane]


class LaneForm(forms.ModelForm):
    """Whose lane, and what it has of it."""

    lane = forms.ChoiceField(choices=LANES, widget=UnfoldAdminSelectWidget)
    limit = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=f"So many steps may be ready or running, 1 to {lanes.MAX_LIMIT:,}.  Raised, queued steps come in at"
        " once; lowered, what runs ends first.",
    )
    weight = forms.FloatField(
        widget=UnfoldAdminDecimalFieldWidget,
        initial=1,
        help_text=f"The share beside other workspaces, {lanes.LEAST_WEIGHT} to {lanes.MAX_WEIGHT}; 1 is like all.",
    )

    class Meta:
        model = LaneSlot
        fields = ("workspace",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial.update(limit=self.instance.lim, weight=self.instance.weight)
            self.fields.pop("lane", None)  # whose and which it is does not change

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        given = {name: data[name] for name in ("limit", "weight") if data.get(name) is not None}
        for wrong in lanes.faults(given) if given else ():
            self.add_error(wrong["path"], wrong["message"])
        return data

    def given(self) -> dict[str, Any]:
        """What is to be set: of a lane that is there only what was changed, so that nobody else's change is undone."""
        names = [name for name in ("limit", "weight") if not self.instance.pk or name in self.changed_data]
        return {name: self.cleaned_data[name] for name in names}


@admin.register(LaneSlot)
class LaneAdmin(SavedByService):
    read_action, write_action = "lanes.read", "lanes.write"
    form = LaneForm
    list_display = ("name", "limit_shown", "in_use", "weight", "set_by", "workspace")
    list_select_related = ("workspace",)
    list_filter = (filters.WorkspaceFilter, ("lane", admin.ChoicesFieldListFilter))
    ordering = ("workspace", "lane")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LaneSlot]:
        return super().get_queryset(request).select_related("workspace")

    def get_fields(self, request: HttpRequest, obj: LaneSlot | None = None) -> tuple[str, ...]:
        numbers = ("limit", "weight")
        return ("workspace", "name", *numbers, "in_use", "set_by") if obj else ("workspace", "lane", *numbers)

    def get_readonly_fields(self, request: HttpRequest, obj: LaneSlot | None = None) -> tuple[str, ...]:
        return ("workspace", "name", "in_use", "set_by") if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = access.writable(request, self.write_action or "", Workspace.objects.order_by("name"), "id")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def apply(self, request: HttpRequest, obj: LaneSlot, form: LaneForm, *, change: bool) -> Any:
        """Nothing where nothing was changed: a lane that nobody has set follows the installation's limit."""
        if given := form.given():
            user = access.require(request, "lanes.write", obj.workspace_id)
            lanes.change(obj.workspace_id, obj.lane, given, user=user)
        return LaneSlot.objects.get(workspace=obj.workspace_id, lane=obj.lane).pk

    @display(description="Lane")
    def name(self, slot: LaneSlot) -> str:
        return slot.lane

    @display(description="Limit")
    def limit_shown(self, slot: LaneSlot) -> str:
        return f"{slot.lim:,}"

    @display(description="In use")
    def in_use(self, slot: LaneSlot) -> str:
        over = f", {slot.over:,} over the limit" if slot.over else ""
        return f"{slot.used:,}{over}"

    @display(description="Set by")
    def set_by(self, slot: LaneSlot) -> str:
        return "an admin" if slot.custom else "the installation"
