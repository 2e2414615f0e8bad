"""Why a run is not moving."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.runs import RunViews
from agentsys.infrastructure import registry
from agentsys.runs import blockers


class BlockerOut(serializers.Serializer[Any]):
    kind = serializers.CharField(
        help_text="Such as slot, queue, approval, child, budget, timer, no_worker; running if it moves."
    )
    step = serializers.CharField(help_text="Empty: it is the whole run's.")
    since = serializers.DateTimeField(allow_null=True)
    message = serializers.CharField()
    unblock = serializers.CharField(help_text="What would change it.")
    data = serializers.DictField()  # type: ignore[assignment]


class BlockersOut(serializers.Serializer[Any]):
    summary = serializers.CharField(help_text="In one sentence.")
    blockers = BlockerOut(many=True)
    left_out = serializers.IntegerField(help_text="Open steps that were not looked at.")


class RunBlockers(RunViews):
    permits: ClassVar[Mapping[str, str]] = {"retrieve": "runs.read"}

    @extend_schema(operation_id="runs_blockers", tags=["runs"], responses=BlockersOut)
    def retrieve(self, request: Request, run_id: UUID) -> Response:
        """What the run waits for or works at: of each open step why, since when, and what would change it."""
        told = blockers.of(self.run(run_id), live_lanes=registry.live_lanes())
        found = [asdict(one) for one in told.found]
        return Response(BlockersOut({"summary": told.summary, "blockers": found, "left_out": told.left_out}).data)
