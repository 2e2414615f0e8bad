"""The catalogue of tools, with the JSON Schemas of their arguments and results."""

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import shown
from agentsys.api.schema import pages_of
from agentsys.api.views import WorkspaceViews
from agentsys.core.errors import NotFound, ToolChanged, ToolUnknown
from agentsys.tools import registry
from agentsys.tools.mcp import catalogue


class ToolOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    effect = serializers.ChoiceField(choices=registry.EFFECTS, help_text="What a repetition would do.")
    lane = serializers.ChoiceField(choices=registry.LANES)
    timeout_s = serializers.FloatField()
    approval = serializers.BooleanField(help_text="Whether a person must approve each call.")
    input_schema = serializers.DictField()
    output_schema = serializers.DictField(allow_null=True)
    examples = serializers.ListField(child=serializers.CharField())


class Tools(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {"list": "tools.read", "retrieve": "tools.read"}
    filter_backends = ()

    @extend_schema(operation_id="tools_list", tags=["tools"], responses=pages_of(ToolOut))
    def list(self, request: Request) -> Response:
        """Every tool that a plan may call: the installation's, then those of the workspace's MCP servers."""
        found = [*registry.all_tools().values(), *catalogue.own(self.workspace_id).values()]
        return Response({"next": None, "previous": None, "results": ToolOut(found, many=True).data})

    @extend_schema(operation_id="tools_retrieve", tags=["tools"], responses=ToolOut)
    def retrieve(self, request: Request, name: str) -> Response:
        """One tool."""
        try:
            return Response(shown(ToolOut, catalogue.get(name, self.workspace_id)))
        except (ToolUnknown, ToolChanged) as error:
            raise NotFound(error.message) from None
