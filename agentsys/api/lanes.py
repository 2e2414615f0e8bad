"""Lanes: how many steps of each the workspace may have ready or running, and its share beside others."""

from collections.abc import Mapping
from typing import ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, Json, checked, shown
from agentsys.api.schema import pages_of
from agentsys.api.views import WorkspaceViews
from agentsys.runs import lanes
from agentsys.runs.lanes import LEAST_WEIGHT, MAX_LIMIT, MAX_WEIGHT, Share
from agentsys.runs.models import LaneSlot
from agentsys.runs.states import Lane


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT})
class Limit(Json):
    """Judged by the service."""


@extend_schema_field({"type": "number", "minimum": LEAST_WEIGHT, "maximum": MAX_WEIGHT})
class Weight(Json):
    """Judged by the service."""


class LaneIn(Body):
    """A lane's new limit, weight, or both; what is left out stays as it is."""

    limit = Limit(required=False)
    weight = Weight(required=False)


class LaneOut(serializers.Serializer[Share]):
    lane = serializers.CharField(help_text=f"One of {', '.join(Lane.values)}.")
    limit = serializers.IntegerField(help_text="So many steps may be ready or running.")
    used = serializers.IntegerField(help_text="So many are; above the limit while what ran when it was lowered ends.")
    weight = serializers.FloatField(help_text="The share of the lane beside other workspaces; 1 unless it was set.")
    custom = serializers.BooleanField(help_text="Somebody has set it; else it is the installation's.")


class Lanes(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {"list": "lanes.read", "partial_update": "lanes.write"}
    queryset = LaneSlot.objects.none()
    serializer_class = LaneOut
    pagination_class = None

    @extend_schema(operation_id="lanes_list", tags=["lanes"], responses=pages_of(LaneOut))
    def list(self, request: Request) -> Response:
        """The workspace's lanes."""
        found = [shown(LaneOut, one) for one in lanes.of_workspace(self.workspace_id)]
        return Response({"next": None, "previous": None, "results": found})

    @extend_schema(operation_id="lanes_change", tags=["lanes"], request=LaneIn, responses=LaneOut)
    def partial_update(self, request: Request, lane: str) -> Response:
        """Set a lane's limit and weight.  Raised, queued steps come in at once; lowered, what runs ends first."""
        given = checked(LaneIn, request.data)
        return Response(shown(LaneOut, lanes.change(self.workspace_id, lane, given, user=self.user)))
