"""Agents: a name, and versions that never change.  To edit a definition is to make the next version."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from unfold.admin import StackedInline
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from agentsys.agents import services
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.core.errors import InvalidInput
from agentsys.dashboard import access, text
from agentsys.tools import registry
from agentsys.tools.mcp import catalogue

from . import filters
from .base import ScopedAdmin

DEFINITION = tuple(field.name for field in fields(Definition))
MODES = [
    (Mode.PLAN.value, "Plan: a model writes the steps"),
    (Mode.REACT.value, "React: a model calls tools, turn by turn"),
    (Mode.FIXED.value, "Fixed: each run brings its plan"),
]


class _Document(forms.JSONField):
    """JSON in a text area; nothing stays nothing, not ``null``."""

    widget = UnfoldAdminTextareaWidget({"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        if value in (None, {}):
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


class _Lines(forms.CharField):
    """A list of texts, one a line."""

    widget = UnfoldAdminTextareaWidget({"rows": 2})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]


class AgentForm(forms.ModelForm):
    """An agent together with the definition that its next version will have."""

    mode = forms.ChoiceField(choices=MODES, initial=Mode.PLAN.value, widget=UnfoldAdminSelectWidget)
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="For example openai-chat:… or anthropic:…; empty: the installation's AGENTSYS_MODEL.",
    )
    fallback_models = _Lines(
        required=False, help_text="Models that are asked in this order when the first cannot answer, one a line."
    )
    instructions = forms.CharField(required=False, max_length=20_000, widget=UnfoldAdminTextareaWidget)
    tools = forms.MultipleChoiceField(
        required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget, help_text="None chosen: all of them."
    )
    output_schema = _Document(required=False, help_text="A JSON Schema that every result must fit.")
    limits = _Document(
        required=False,
        help_text='A JSON object of steps, tokens, cost_usd, time_s and parallel, each optional: {"steps": 50}.',
    )
    approvals = _Document(
        required=False,
        help_text='What a person must approve: {"tools": ["http.post"]} or {"tools": "all"}; expires_s, on_denied.',
    )
    planning = _Document(
        required=False,
        help_text='How runs plan and act: {"replan_on_failure": 1}; max_plans, max_fan_out, max_repeats, max_turns.',
    )
    use_version = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        widget=UnfoldAdminSelectWidget,
        label="Version for new runs",
        help_text="Choose an earlier one to go back to it. A changed definition makes a new version, used at once.",
    )

    class Meta:
        model = Agent
        fields = ("workspace", "slug", "name", "description")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance.current_version if self.instance.pk and not self.instance._state.adding else None
        self.known = {name: getattr(version, name) for name in DEFINITION} if version else {}
        for name, value in self.known.items():
            self.initial[name] = value
        own = catalogue.names(self.instance.workspace_id) if self.known else registry.all_tools()
        names = {*own, *self.known.get("tools", ())}
        if "tools" in self.fields:
            cast(forms.MultipleChoiceField, self.fields["tools"]).choices = [(name, name) for name in sorted(names)]
        self._offer_versions(version)

    def _offer_versions(self, current: AgentVersion | None) -> None:
        if "use_version" not in self.fields:
            return
        if current is None:
            del self.fields["use_version"]
            return
        numbers = self.instance.versions.values_list("number", flat=True)[: filters.MAX_CHOICES]
        choices = [(number, f"version {number}") for number in numbers]
        cast(forms.TypedChoiceField, self.fields["use_version"]).choices = choices
        self.initial["use_version"] = current.number

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["limits"] = data.get("limits") or {}
        data["approvals"] = data.get("approvals") or {}
        data["planning"] = data.get("planning") or {}
        data["output_schema"] = data.get("output_schema")
        if not self.errors:
            self._check()
        return data

    def _check(self) -> None:
        try:
            self.definition().check(self.workspace_id())
        except InvalidInput as error:
            for fault in error.data["errors"]:
                name = fault["path"].partition("[")[0].partition(".")[0]
                self.add_error(name if name in self.fields else None, fault["message"])

    def workspace_id(self) -> UUID:
        """Whose tools its agent may name."""
        given = self.cleaned_data.get("workspace")
        return cast(UUID, given.pk if given is not None else self.instance.workspace_id)

    def definition(self) -> Definition:
        """What the form says now."""
        return Definition(**{name: self.cleaned_data[name] for name in DEFINITION})

    def is_other_definition(self) -> bool:
        """Whether it differs from that of the current version."""
        return {**asdict(self.definition()), "tools": sorted(self.cleaned_data["tools"])} != {
            **self.known,
            "tools": sorted(self.known.get("tools", ())),
        }


class VersionInline(StackedInline):
    """What an agent was and is; to be read."""

    model = AgentVersion
    fk_name = "agent"
    fields = readonly_fields = (
        "mode",
        "model",
        "fallback_models",
        "written",
        "only_tools",
        "schema",
        "bounds",
        "consent",
        "replans",
        "made",
    )
    verbose_name_plural = "Versions"
    ordering = ("-number",)
    extra = 0
    can_delete = False
    per_page = 10
    tab = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # the page of its agent has been allowed

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Instructions")
    def written(self, version: AgentVersion) -> str:
        return text.block(version.instructions, 4_000)

    @display(description="Tools")
    def only_tools(self, version: AgentVersion) -> str:
        return ", ".join(version.tools) or "all"

    @display(description="Output schema")
    def schema(self, version: AgentVersion) -> str:
        return text.compact(version.output_schema, 2_000)

    @display(description="Limits")
    def bounds(self, version: AgentVersion) -> str:
        return text.compact(version.limits, 500)

    @display(description="Approvals")
    def consent(self, version: AgentVersion) -> str:
        return text.compact(version.approvals, 2_000)

    @display(description="Planning anew")
    def replans(self, version: AgentVersion) -> str:
        return text.compact(version.planning, 500)

    @display(description="Made (UTC)")
    def made(self, version: AgentVersion) -> str:
        return text.moment(version.created_at)


@admin.register(Agent)
class AgentAdmin(ScopedAdmin):
    read_action, write_action = "agents.read", "agents.write"
    form = AgentForm
    list_display = ("slug", "name", "current", "model_name", "workspace", "created")
    list_select_related = ("current_version", "workspace")
    list_filter = (filters.WorkspaceFilter,)
    search_fields = ("slug", "name")
    compressed_fields = False

    def get_fieldsets(self, request: HttpRequest, obj: Agent | None = None) -> Any:
        names = ("slug", "name", "description")
        return (
            (None, {"fields": names if obj else ("workspace", *names)}),
            ("Definition", {"fields": (*DEFINITION, "use_version") if obj else DEFINITION}),
        )

    def get_inlines(self, request: HttpRequest, obj: Agent | None) -> tuple[type[VersionInline], ...]:
        return (VersionInline,) if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> tuple[str, ...]:
        return ("slug",) if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "workspace":
            every = db_field.remote_field.model.objects.order_by("name")  # type: ignore[union-attr]
            kwargs["queryset"] = _writable(request, every)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Agent, form: AgentForm, change: bool) -> None:
        """Through the services: the row itself is never saved from here."""
        if change:
            self._change(obj, form)
            return
        made = services.create_agent(
            workspace_id=obj.workspace_id,
            slug=obj.slug,
            name=obj.name,
            description=obj.description,
            definition=form.definition(),
        )
        obj.pk, obj._state.adding = made.pk, False

    def _change(self, agent: Agent, form: AgentForm) -> None:
        number = form.cleaned_data.get("use_version")
        services.change_agent(agent, name=agent.name, description=agent.description, current_version=number)
        if form.is_other_definition():
            services.add_version(agent, definition=form.definition())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return super().get_queryset(request).select_related("current_version", "workspace")

    @display(description="Version")
    def current(self, agent: Agent) -> str:
        return str(agent.current_version.number) if agent.current_version else ""

    @display(description="Model")
    def model_name(self, agent: Agent) -> str:
        return (agent.current_version.model if agent.current_version else "") or "the installation's"

    @display(description="Created (UTC)")
    def created(self, agent: Agent) -> str:
        return text.moment(agent.created_at)


def _writable(request: HttpRequest, workspaces: QuerySet[Any]) -> QuerySet[Any]:
    if access.crosses_workspaces(request):
        return workspaces
    roles: Mapping[Any, str] = access.roles(request)
    return workspaces.filter(pk__in=[key for key in roles if access.may(request, "agents.write", key)])
