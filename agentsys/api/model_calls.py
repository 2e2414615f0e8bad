"""What models were asked for a run, and what they answered."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import shown
from agentsys.api.pages import Keyset
from agentsys.api.steps import RUN, ObjectOrNull, PartsOfRun
from agentsys.core.errors import NotFound
from agentsys.runs import told_models
from agentsys.runs.models import ModelCall

#: Beyond it there is none: PostgreSQL's bigint.
MAX_ID = 2**63 - 1
CALL = OpenApiParameter("number", OpenApiTypes.INT, OpenApiParameter.PATH, description="The call's id.")


class ModelCallOut(serializers.ModelSerializer[ModelCall]):
    step = serializers.CharField(source="step.key")
    cost_usd = serializers.FloatField()
    error = ObjectOrNull(allow_null=True)
    priced_by = serializers.CharField(help_text="Where the price comes from; empty: nobody knows the price.")
    cached = serializers.BooleanField(help_text="The same had been answered before, and the model was not asked.")

    class Meta:
        model = ModelCall
        fields = [
            "id", "step", "attempt", "number", "purpose", "model", "max_output_tokens", "input_tokens", "output_tokens",
            "cost_usd", "priced_by", "cached", "error", "took_s", "at",
        ]  # fmt: skip
        read_only_fields = fields


class ToolOffered(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    parameters = serializers.JSONField()


class RequestOut(serializers.Serializer[Any]):
    purpose = serializers.CharField()
    system = serializers.CharField()
    prompt = serializers.CharField()
    tools = ToolOffered(many=True)
    output_schema = ObjectOrNull(allow_null=True)
    turns = serializers.JSONField(help_text="What it had called before, and what that gave.")
    note = serializers.CharField()


class WholeModelCallOut(ModelCallOut):
    request = RequestOut()
    response = serializers.JSONField(allow_null=True, help_text="As the run got it; null where there is none.")

    class Meta(ModelCallOut.Meta):
        fields = [*ModelCallOut.Meta.fields, "request", "response"]
        read_only_fields = fields


class InOrder(Keyset):
    ordering = ("id",)
    limit, max_limit = 100, 500


class ModelCalls(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read", "retrieve": "runs.read"}
    queryset = ModelCall.objects.none()
    serializer_class = ModelCallOut
    pagination_class = InOrder

    @extend_schema(operation_id="model_calls_list", tags=["runs"], parameters=[RUN])
    def list(self, request: Request, run_id: UUID) -> Response:
        """The calls of models that a run has made, in their order; those of the offline model are not kept."""
        self.check_run(run_id)
        return self.paged(ModelCall.objects.filter(run_id=run_id).select_related("step"))

    @extend_schema(
        operation_id="model_calls_retrieve", tags=["runs"], parameters=[RUN, CALL], responses=WholeModelCallOut
    )
    def retrieve(self, request: Request, run_id: UUID, number: int) -> Response:
        """One call, with what was asked and what was answered."""
        self.check_run(run_id)
        if number > MAX_ID:
            raise NotFound
        return Response(shown(WholeModelCallOut, told_models.whole(run_id, number)))
