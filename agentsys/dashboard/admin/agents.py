"""Agents: a name, and versions that never change.  To edit a definition is to make the next version."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import StackedInline
from unfold.decorators import display

from agentsys.agents import documents, services, versions
from agentsys.agents.definition import FIELDS
from agentsys.agents.models import Agent, AgentVersion, VersionStatus
from agentsys.core.errors import NotFound
from agentsys.dashboard import access, text

from . import filters
from .agent_form import LIFE, AgentForm
from .base import ScopedAdmin


class VersionInline(StackedInline):
    """What an agent was and is; to be read."""

    model = AgentVersion
    fk_name = "agent"
    fields = readonly_fields = (
        "status",
        "changed",
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
        "file",
    )
    verbose_name_plural = "Versions"
    ordering = ("-number",)
    extra = 0
    can_delete = False
    per_page = 10
    tab = True
    _shown: list[AgentVersion] | None = None  # of one request: so long does an inline live

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # the page of its agent has been allowed

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _before(self, version: AgentVersion) -> AgentVersion | None:
        """The one before it.  One query a page: the first that is asked about is the newest on it."""
        if self._shown is None:
            upto = AgentVersion.objects.filter(agent=version.agent_id, number__lte=version.number)
            self._shown = list(upto.order_by("-number")[: self.per_page + 1])
        return next((one for one in self._shown if one.number < version.number), None)

    @display(description="What it says otherwise than the version before")
    def changed(self, version: AgentVersion) -> SafeString | str:
        before = self._before(version)
        if before is None:
            return "-"
        found = documents.differences(before, version)
        told = found["text"] or ", ".join(change["field"] for change in found["changes"]) or "nothing"
        return format_html('<pre class="whitespace-pre-wrap font-mono text-xs">{}</pre>', text.block(told, 4_000))

    @display(description="As a file")
    def file(self, version: AgentVersion) -> SafeString:
        address = reverse("admin:agent_yaml", args=[version.agent_id, version.number])
        return format_html('<a href="{}" class="text-primary-600 underline">YAML</a>', address)

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
            ("Definition", {"fields": FIELDS}),
            *((("Versions", {"fields": LIFE}),) if obj else ()),
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
        said = form.cleaned_data
        number, old = said.get("use_version"), said.get("retire")
        if number is not None and number in form.drafts:
            versions.publish(agent, number)
            number = None
        services.change_agent(agent, name=agent.name, description=agent.description, current_version=number)
        if form.is_other_definition():
            state = said.get("becomes") or VersionStatus.PUBLISHED
            versions.add_version(agent, definition=form.definition(), status=state)
        if old is not None:
            versions.retire(agent, old)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("<str:key>/versions/<int:number>.yaml", view, name="agent_yaml"), *super().get_urls()]

    def export(self, request: HttpRequest, key: str, number: int) -> HttpResponse:
        """A version as a YAML file."""
        agent = self.get_object(request, key)
        if agent is None or not self.has_view_permission(request, agent):
            raise Http404
        try:
            version = versions.find(agent, number)
        except NotFound:
            raise Http404 from None
        headers = {"Content-Disposition": f'attachment; filename="{documents.file_name(agent, version)}"'}
        return HttpResponse(documents.export(agent, version), content_type=documents.CONTENT_TYPE, headers=headers)

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
