"""The parts of a run: its steps and its files."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import F, QuerySet
from django.http import HttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import shown
from agentsys.api.pages import Keyset
from agentsys.api.views import WorkspaceViews
from agentsys.core.errors import NotFound
from agentsys.runs.delegation import with_child
from agentsys.runs.models import Run, RunFile, Step

RUN = OpenApiParameter("run_id", OpenApiTypes.UUID, OpenApiParameter.PATH)


@extend_schema_field({"type": "object", "nullable": True})
class ObjectOrNull(serializers.JSONField):
    """Stored as it is shown."""


class StepOut(serializers.ModelSerializer[Step]):
    arguments = serializers.JSONField(allow_null=True, help_text="As planned, with references.")
    output = serializers.JSONField(allow_null=True)
    error = ObjectOrNull(allow_null=True)
    usage = ObjectOrNull(allow_null=True)
    child_run_id = serializers.UUIDField(
        default=None, allow_null=True, help_text="The run that a delegate step has started."
    )

    class Meta:
        model = Step
        fields = [
            "id", "key", "kind", "tool", "lane", "status", "reason", "arguments", "output", "error",
            "attempt", "failures", "depends_on", "usage", "child_run_id", "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields


class FileOut(serializers.ModelSerializer[RunFile]):
    size = serializers.IntegerField(help_text="Bytes.")
    sha256 = serializers.CharField()
    written_by = serializers.CharField(help_text="The key of a step; empty: it came with the run.")

    class Meta:
        model = RunFile
        fields = ["name", "size", "sha256", "written_by", "written_at"]
        read_only_fields = fields


class InPlanOrder(Keyset):
    ordering = ("id",)
    limit, max_limit = 100, 500


class ByFileName(Keyset):
    ordering = ("name",)  # unique in a run
    limit, max_limit = 100, 500


class PartsOfRun(WorkspaceViews):
    """Views of what belongs to one run."""

    def check_run(self, run_id: UUID) -> None:
        """
        Raises:
            NotFound: the run is not in this workspace.
        """
        if not Run.objects.filter(workspace_id=self.workspace_id, pk=run_id).exists():
            raise NotFound


class Steps(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read", "retrieve": "runs.read"}
    queryset = Step.objects.none()
    serializer_class = StepOut
    pagination_class = InPlanOrder

    @extend_schema(operation_id="steps_list", tags=["runs"], parameters=[RUN])
    def list(self, request: Request, run_id: UUID) -> Response:
        """The steps of a run, in plan order."""
        self.check_run(run_id)
        return self.paged(with_child(Step.objects.filter(run_id=run_id)))

    @extend_schema(operation_id="steps_retrieve", tags=["runs"], parameters=[RUN], responses=StepOut)
    def retrieve(self, request: Request, run_id: UUID, key: str) -> Response:
        """One step."""
        self.check_run(run_id)
        found = with_child(Step.objects.filter(run_id=run_id, key=key)).first()
        if found is None:
            raise NotFound
        return Response(shown(StepOut, found))


class Files(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read", "retrieve": "runs.read"}
    queryset = RunFile.objects.none()
    serializer_class = FileOut
    pagination_class = ByFileName

    def files(self, run_id: UUID) -> "QuerySet[RunFile, Any]":
        self.check_run(run_id)
        return RunFile.objects.filter(run_id=run_id)

    @extend_schema(operation_id="files_list", tags=["runs"], parameters=[RUN])
    def list(self, request: Request, run_id: UUID) -> Response:
        """The files of a run: those it came with and those its steps wrote."""
        found = self.files(run_id).annotate(size=F("payload__size_bytes"), sha256=F("payload__sha256"))
        return self.paged(found)

    @extend_schema(
        operation_id="files_retrieve",
        tags=["runs"],
        parameters=[RUN],
        responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)},
    )
    def retrieve(self, request: Request, run_id: UUID, name: str) -> HttpResponse:
        """The content of a file, always as a download: what a tool wrote is never shown as a page."""
        found = self.files(run_id).select_related("payload").filter(name=name).first()
        if found is None:
            raise NotFound
        headers = {
            "Content-Disposition": content_disposition_header(True, found.name) or "attachment",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{found.payload.sha256}"',
        }
        content = bytes(found.payload.content)
        return HttpResponse(content, content_type="application/octet-stream", headers=headers)
