"""Who works: the processes that claim steps, as their heartbeats tell."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.pages import Keyset
from agentsys.api.views import WorkspaceViews
from agentsys.infrastructure.models import Worker
from agentsys.infrastructure.registry import SILENT_S


class WorkerOut(serializers.ModelSerializer[Worker]):
    alive = serializers.BooleanField(help_text=f"Heard of within the last {SILENT_S} seconds.")

    class Meta:
        model = Worker
        fields = [
            "name", "host", "lane", "pid", "concurrency", "alive", "draining",
            "cpu_percent", "memory_bytes", "started_at", "seen_at",
        ]  # fmt: skip
        read_only_fields = fields


class ByName(Keyset):
    ordering = ("name",)


class Workers(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {"list": "workers.read"}
    queryset = Worker.objects.none()
    serializer_class = WorkerOut
    pagination_class = ByName

    def workers(self) -> "QuerySet[Any]":
        """By the database's clock, which wrote ``seen_at``."""
        heard = Q(seen_at__gt=Now() - timedelta(seconds=SILENT_S))
        return Worker.objects.annotate(alive=ExpressionWrapper(heard, output_field=BooleanField()))

    @extend_schema(operation_id="workers_list", tags=["operations"])
    def list(self, request: Request) -> Response:
        """The workers of this installation; those gone for long are kept until they are cleaned up."""
        return self.paged(self.workers())
