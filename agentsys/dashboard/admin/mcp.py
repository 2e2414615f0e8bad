"""MCP servers: where a workspace's own tools come from; what they have changed is approved here, old beside new."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Field, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from agentsys.accounts.models import Workspace
from agentsys.core.errors import AgentSysError, InvalidInput
from agentsys.dashboard import access
from agentsys.tools.mcp import definition, listing, services
from agentsys.tools.mcp.definition import FIELDS
from agentsys.tools.models import McpServer, McpTool

from . import filters
from .base import as_uuid, badge
from .by_service import SavedByService


class ServerForm(forms.ModelForm):
    """A server as REST takes it."""

    args = forms.JSONField(required=False, widget=UnfoldAdminTextareaWidget({"rows": 2}), help_text='["--option"]')
    headers = forms.JSONField(
        required=False, widget=UnfoldAdminTextareaWidget({"rows": 2}), help_text='{"Name": "value"}; no secrets.'
    )

    class Meta:
        model = McpServer
        fields = ("workspace", *FIELDS)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["args"], data["headers"] = data.get("args") or [], data.get("headers") or {}
        if not self.errors:
            for wrong in definition.faults(self.given()):
                name = wrong["path"].partition(".")[0]
                self.add_error(name if name in self.fields else None, wrong["message"])
        return data

    def given(self) -> dict[str, Any]:
        """What the form says now."""
        return {name: self.cleaned_data[name] for name in FIELDS}


@admin.register(McpServer)
class McpServerAdmin(SavedByService):
    read_action, write_action = "mcp.read", "mcp.write"
    form = ServerForm
    change_form_outer_before_template = "dashboard/mcp_server.html"
    list_display = ("name", "transport", "state", "tools_shown", "trusted", "workspace")
    list_select_related = ("workspace",)
    list_filter = (filters.WorkspaceFilter,)
    ordering = ("workspace", "name")

    def get_fields(self, request: HttpRequest, obj: McpServer | None = None) -> tuple[str, ...]:
        return ("workspace", *FIELDS, *(("error", "refused_shown") if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: McpServer | None = None) -> tuple[str, ...]:
        return ("workspace", "error", "refused_shown") if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = access.writable(request, self.write_action or "", Workspace.objects.order_by("name"), "id")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[McpServer]:
        return super().get_queryset(request).prefetch_related("tools")

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> str:
        return f"Set {', '.join(form.changed_data)}." if form.changed_data else "Set nothing."

    def apply(self, request: HttpRequest, obj: Any, form: ServerForm, *, change: bool) -> Any:
        user = access.require(request, "mcp.write", obj.workspace_id)
        may_trust = access.may(request, "mcp.trust", obj.workspace_id)
        given = {name: value for name, value in form.given().items() if not change or name in form.changed_data}
        if change:
            return services.change(McpServer(pk=obj.pk), given, user=user, may_trust=may_trust).pk
        return services.define(obj.workspace_id, given, user=user, may_trust=may_trust).pk

    # --- Refresh and approve ------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        views = [
            path("<str:key>/refresh/", self.admin_site.admin_view(self.refresh), name="mcp_refresh"),
            path("<str:key>/approve/", self.admin_site.admin_view(self.approve), name="mcp_approve"),
        ]
        return views + super().get_urls()

    def refresh(self, request: HttpRequest, key: str) -> HttpResponse:
        """Ask the server for its tools."""
        return self._done(request, key, lambda server: services.refresh(server), "Its tools are as listed below.")

    def approve(self, request: HttpRequest, key: str) -> HttpResponse:
        """Let a tool be called as it is described now."""
        tool_id, digest = as_uuid(request.POST.get("tool", "")), request.POST.get("digest", "")

        def approve(server: McpServer) -> object:
            return services.approve(_tool(server, tool_id), digest, user=request.user)  # type: ignore[arg-type]

        return self._done(request, key, approve, "The tool can be called as it is described now.")

    def _done(self, request: HttpRequest, key: str, do: Callable[[McpServer], object], said: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        server = self.get_object(request, key)
        if server is None:
            raise Http404
        if not access.may(request, "mcp.write", server.workspace_id):
            raise PermissionDenied
        try:
            do(server)
        except AgentSysError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, server, said)
            messages.success(request, said)
        return redirect("admin:tools_mcpserver_change", server.pk)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        server = self.get_object(request, object_id)
        shown = _shown(server) if server is not None else []
        may = server is not None and access.may(request, "mcp.write", server.workspace_id)
        extra = {**(extra_context or {}), "mcp_tools": shown, "mcp_may_write": may}
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra)
        return answer

    # --- Columns --------------------------------------------------------------------------
    @display(description="State")
    def state(self, server: McpServer) -> str:
        if not server.enabled:
            return "off"
        if server.error:
            return server.error[:100]
        return f"MCP {server.protocol_version}" if server.refreshed_at else "never refreshed"

    @display(description="Tools")
    def tools_shown(self, server: McpServer) -> SafeString | str:
        tools = server.tools.all()
        waiting = sum(tool.state == "changed" for tool in tools)
        active = sum(tool.state == "active" for tool in tools)
        return format_html("{}, {} to approve", active, waiting) if waiting else str(active)

    @display(description="Left out")
    def refused_shown(self, server: McpServer) -> str:
        return "; ".join(f"{one['name']}: {one['reason']}" for one in server.refused[:20]) or "-"


def _tool(server: McpServer, tool_id: UUID | None) -> McpTool:
    found = server.tools.filter(pk=tool_id).first() if tool_id else None
    if found is None:
        raise InvalidInput("The server has no such tool.")
    return found


def _shown(server: McpServer) -> list[dict[str, Any]]:
    """Its tools, those that wait for somebody first."""
    tools = sorted(server.tools.select_related("server"), key=lambda tool: (tool.state != "changed", tool.name))
    return [
        {
            "tool": tool,
            "badge": badge(tool.state),
            "effect": listing.effect_of(tool.definition, trusted=server.trusted),
            "difference": services.difference(tool),
        }
        for tool in tools
    ]
