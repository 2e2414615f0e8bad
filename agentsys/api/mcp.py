"""MCP servers: where a workspace's own tools come from, and what of them somebody has to approve."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, Json, Object, Text, checked, shown
from agentsys.api.pages import Keyset
from agentsys.api.schema import pages_of
from agentsys.api.views import WorkspaceViews
from agentsys.core.errors import NotFound
from agentsys.tools.mcp import listing, services
from agentsys.tools.models import McpServer, McpTool, ToolState, Transport
from agentsys.tools.registry import EFFECTS


@extend_schema_field({"type": "string"})
class Word(Json):
    """A text, judged by the service."""


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class Words(Json):
    """Judged by the service."""


@extend_schema_field({"type": "boolean"})
class Flag(Json):
    """Judged by the service."""


@extend_schema_field({"type": "number"})
class Seconds(Json):
    """Judged by the service."""


class ServerChange(Body):
    name = Word(required=False, help_text="Its tools are called <name>.<tool>.")
    transport = Word(required=False, help_text="stdio (a command) or http (streamable HTTP, a url).")
    command = Word(required=False, help_text="stdio: a name of the setting AGENTSYS_MCP_COMMANDS.")
    args = Words(required=False, help_text="stdio: arguments, where the command takes any.")
    url = Word(required=False, help_text="http: where it is.")
    headers = Object(required=False, help_text="http: sent with every request; no secrets.")
    timeout_s = Seconds(required=False, help_text="Of one call, unless its step says otherwise.")
    enabled = Flag(required=False, help_text="Whether its tools may be called.")
    trusted = Flag(required=False, help_text="Whether its word on its tools' effects is believed; only admins say so.")


class NewServer(ServerChange):
    name = Word(help_text="Its tools are called <name>.<tool>.")
    transport = Word(help_text="stdio (a command) or http (streamable HTTP, a url).")


class RefusedOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    reason = serializers.CharField()


class ServerOut(serializers.ModelSerializer[McpServer]):
    transport = serializers.ChoiceField(choices=Transport.values)
    args = serializers.ListField(child=serializers.CharField())
    headers = serializers.DictField(child=serializers.CharField())
    refused = RefusedOut(many=True, help_text="Tools that it lists and that cannot be used, and why.")

    class Meta:
        model = McpServer
        fields = [
            *("id", "name", "transport", "command", "args", "url", "headers", "timeout_s", "enabled", "trusted"),
            *("protocol_version", "refused", "error", "refreshed_at", "created_at"),
        ]
        read_only_fields = fields


class McpToolOut(serializers.Serializer[McpTool]):
    name = serializers.CharField(source="full_name", help_text="As plans call it.")
    remote_name = serializers.CharField(source="name", help_text="As the server calls it.")
    state = serializers.ChoiceField(choices=ToolState.values, help_text="Only an active one can be called.")
    effect = serializers.SerializerMethodField()
    definition = serializers.DictField(help_text="As it was approved.")
    digest = serializers.CharField(help_text="SHA-256 of the definition.")
    proposed = serializers.DictField(allow_null=True, help_text="What the server says now, if it has changed it.")
    proposed_digest = serializers.CharField(allow_null=True)
    difference = serializers.SerializerMethodField()
    approved_at = serializers.DateTimeField()

    @extend_schema_field(serializers.ChoiceField(choices=EFFECTS))
    def get_effect(self, tool: McpTool) -> str:
        return listing.effect_of(tool.definition, trusted=tool.server.trusted)

    @extend_schema_field(serializers.CharField(help_text="A unified diff of the two."))
    def get_difference(self, tool: McpTool) -> str:
        return services.difference(tool)


class ApproveTool(Body):
    digest = Text(max_length=64, help_text="proposed_digest of the definition that you have looked at.")


class ByName(Keyset):
    ordering = ("name",)  # unique in a workspace


class McpViews(WorkspaceViews):
    """What both views of this file share."""

    filter_backends = ()

    def servers(self) -> QuerySet[McpServer]:
        return McpServer.objects.filter(workspace_id=self.workspace_id)

    def server(self, server_id: UUID) -> McpServer:
        """
        Raises:
            NotFound: not in this workspace.
        """
        found = self.servers().filter(pk=server_id).first()
        if found is None:
            raise NotFound
        return found


class McpServers(McpViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "mcp.read",
        "retrieve": "mcp.read",
        "create": "mcp.write",
        "partial_update": "mcp.write",
        "destroy": "mcp.write",
        "refresh": "mcp.write",
    }
    queryset = McpServer.objects.none()
    serializer_class = ServerOut
    pagination_class = ByName

    @property
    def may_trust(self) -> bool:
        return self.access.allows("mcp.trust")

    @extend_schema(operation_id="mcp_servers_list", tags=["mcp"])
    def list(self, request: Request) -> Response:
        """The MCP servers of the workspace."""
        return self.paged(self.servers())

    @extend_schema(operation_id="mcp_servers_create", tags=["mcp"], request=NewServer, responses={201: ServerOut})
    def create(self, request: Request) -> Response:
        """Define a server; its tools are there once it has been refreshed."""
        given = checked(NewServer, request.data)
        made = services.define(self.workspace_id, given, user=self.user, may_trust=self.may_trust)
        return Response(shown(ServerOut, self.server(made.pk)), status=status.HTTP_201_CREATED)

    @extend_schema(operation_id="mcp_servers_retrieve", tags=["mcp"], responses=ServerOut)
    def retrieve(self, request: Request, server_id: UUID) -> Response:
        """One server."""
        return Response(shown(ServerOut, self.server(server_id)))

    @extend_schema(operation_id="mcp_servers_change", tags=["mcp"], request=ServerChange, responses=ServerOut)
    def partial_update(self, request: Request, server_id: UUID) -> Response:
        """Change a server.  With another address it is trusted only if that is said anew."""
        given = checked(ServerChange, request.data)
        services.change(self.server(server_id), given, user=self.user, may_trust=self.may_trust)
        return Response(shown(ServerOut, self.server(server_id)))

    @extend_schema(operation_id="mcp_servers_delete", tags=["mcp"], responses={204: None})
    def destroy(self, request: Request, server_id: UUID) -> Response:
        """Forget a server and its tools."""
        services.delete(self.server(server_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(operation_id="mcp_servers_refresh", tags=["mcp"], request=None, responses=ServerOut)
    def refresh(self, request: Request, server_id: UUID) -> Response:
        """Ask a server for its tools: new ones can be used at once, changed ones wait for approval."""
        return Response(shown(ServerOut, services.refresh(self.server(server_id))))


class McpTools(McpViews):
    permits: ClassVar[Mapping[str, str]] = {"list": "mcp.read", "retrieve": "mcp.read", "approve": "mcp.write"}
    queryset = McpTool.objects.none()
    serializer_class = McpToolOut
    pagination_class = None

    def tool(self, server_id: UUID, name: str) -> McpTool:
        """
        Raises:
            NotFound: the server is not in this workspace, or has never listed such a tool.
        """
        found = self.server(server_id).tools.select_related("server").filter(name=name.replace("\0", "�")).first()
        if found is None:
            raise NotFound
        return found

    @extend_schema(operation_id="mcp_tools_list", tags=["mcp"], responses=pages_of(McpToolOut))
    def list(self, request: Request, server_id: UUID) -> Response:
        """All tools of a server, at most a thousand, with what has changed."""
        found = self.server(server_id).tools.select_related("server").order_by("name")
        results = [shown(McpToolOut, one) for one in found]
        return Response({"next": None, "previous": None, "results": results})

    @extend_schema(operation_id="mcp_tools_retrieve", tags=["mcp"], responses=McpToolOut)
    def retrieve(self, request: Request, server_id: UUID, name: str) -> Response:
        """One tool."""
        return Response(shown(McpToolOut, self.tool(server_id, name)))

    @extend_schema(operation_id="mcp_tools_approve", tags=["mcp"], request=ApproveTool, responses=McpToolOut)
    def approve(self, request: Request, server_id: UUID, name: str) -> Response:
        """Let a tool be called as its server describes it now."""
        given = checked(ApproveTool, request.data)
        found = services.approve(self.tool(server_id, name), given["digest"], user=self.user)
        return Response(shown(McpToolOut, found))
