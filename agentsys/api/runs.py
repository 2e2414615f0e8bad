"""Runs: submit a goal, find it again, stop it, decide what nobody saw the end of."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.accounts.access import Access
from agentsys.agents.models import AgentVersion
from agentsys.agents.services import DEFAULT_SLUG
from agentsys.api.fields import Body, Integer, Json, Number, Object, Row, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.pages import NewestFirst, invalid
from agentsys.api.steps import StepOut
from agentsys.api.views import WorkspaceViews
from agentsys.core.errors import NotFound
from agentsys.runs import services
from agentsys.runs.models import Run
from agentsys.runs.states import RunStatus
from agentsys.runs.submission import Submission

FORM = {
    "type": "object",
    "description": "As the JSON body; plan, input, limits, labels and output_schema hold JSON.",
    "properties": {
        "agent": {"type": "string"},
        "goal": {"type": "string"},
        "plan": {"type": "string"},
        "input": {"type": "string"},
        "labels": {"type": "string"},
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
}


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class Files(Object):
    """``{name: text}``, or bytes where the form parser has read them."""

    child = Text(allow_blank=True, trim_whitespace=False, max_length=None)

    def run_child_validation(self, data: Mapping[str, Any]) -> dict[str, Any]:
        texts = {name: content for name, content in data.items() if not isinstance(content, bytes)}
        checked_texts = {name: text.encode() for name, text in super().run_child_validation(texts).items()}
        return {**data, **checked_texts}


class SubmitRun(Body):
    """A goal, a plan, or both, and what narrows how it is done."""

    # What is checked here is the shape; what it means is the service's to judge.

    agent = Text(max_length=50, default=DEFAULT_SLUG, help_text="The slug of an agent.")
    goal = Text(allow_blank=True, default="", trim_whitespace=False, max_length=20_000)
    plan = Json(default=None, allow_null=True, help_text='{"steps": […], "answer": …}')
    input = Json(default=None, allow_null=True)
    files = Files(default=dict)
    priority = Integer(default=0, min_value=-10, max_value=10, help_text="Higher is sooner.")
    start_at = serializers.DateTimeField(default=None, allow_null=True)
    deadline_s = Number(default=None, allow_null=True)
    limits = Object(default=dict, help_text="steps, tokens, cost_usd, time_s, parallel")
    labels = Object(child=Text(allow_blank=True, max_length=200), default=dict)
    model = Text(max_length=200, allow_blank=True, default="")
    output_schema = Object(default=None, allow_null=True)
    effects = Text(max_length=8, default="live")


class UsageOut(Row):
    steps = serializers.IntegerField(source="steps_done")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.FloatField()
    model_calls = serializers.IntegerField()
    tool_calls = serializers.IntegerField()


class ErrorOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]


@extend_schema_field(ErrorOut(allow_null=True))
class ErrorField(serializers.JSONField):
    """Stored as it is shown."""


class RunOut(Row, serializers.ModelSerializer[Run]):
    agent = serializers.SlugField(source="agent_version.agent.slug")
    agent_version = serializers.IntegerField(source="agent_version.number")
    result = serializers.JSONField(allow_null=True)
    error = ErrorField(allow_null=True)
    labels = serializers.DictField(child=serializers.CharField())
    usage = UsageOut(source="*")
    parent_run = serializers.UUIDField(source="parent_run_id", allow_null=True)

    class Meta:
        model = Run
        fields = [
            "id", "agent", "agent_version", "goal", "status", "reason", "result", "error", "labels",
            "usage", "plan_version", "parent_run", "created_at", "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields


class RunFilter(filters.FilterSet):
    status = filters.MultipleChoiceFilter(choices=RunStatus.choices, help_text="May be given several times.")
    reason = filters.CharFilter(help_text="Such as poison, budget, policy or approval.")
    agent = filters.CharFilter(method="by_agent", help_text="The slug of an agent.")
    parent = filters.UUIDFilter(
        field_name="parent_run_id", help_text="Made from this run: its children, retries and forks."
    )
    label = filters.CharFilter(method="by_label", help_text="name=value; several times: all of them.")
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")
    search = filters.CharFilter(method="by_text", help_text="Part of the goal, or the run's id.")

    class Meta:
        model = Run
        fields: tuple[str, ...] = ()

    def by_agent(self, runs: "QuerySet[Run]", _: str, value: str) -> "QuerySet[Run]":
        """By its versions' ids: of a join PostgreSQL could not tell how many runs it gives."""
        where = cast(UUID, cast(Access, self.request.auth).workspace_id)  # the view let nobody in without one
        versions = AgentVersion.objects.filter(workspace_id=where, agent__slug=value)
        return runs.filter(agent_version_id__in=list(versions.values_list("pk", flat=True)))

    def by_label(self, runs: "QuerySet[Run]", _: str, value: str) -> "QuerySet[Run]":
        given = self.data.getlist("label") if hasattr(self.data, "getlist") else [value]
        if any("\x00" in text for text in given):
            raise invalid("label", "Null characters are not allowed.")
        pairs = (text.partition("=")[::2] for text in given)
        return runs.filter(labels__contains=dict(pairs))

    def by_text(self, runs: "QuerySet[Run]", _: str, value: str) -> "QuerySet[Run]":
        found = Q(goal__icontains=value)
        try:
            return runs.filter(found | Q(pk=UUID(value)))
        except ValueError:
            return runs.filter(found)


class Resolution(Body):
    outcome = serializers.ChoiceField(choices=services.OUTCOMES)
    result = serializers.JSONField(default=None, allow_null=True, help_text="With done: the step's output.")


class RunViews(WorkspaceViews):
    """Views of the workspace's runs."""

    queryset = Run.objects.none()
    serializer_class = RunOut

    def runs(self) -> "QuerySet[Run]":
        """The workspace's runs, without the columns that no answer shows."""
        unseen = ("plan", "answer", "input", "output_schema", "limits")
        found = Run.objects.filter(workspace_id=self.workspace_id).defer(*unseen)
        return found.select_related("agent_version__agent")

    def run(self, run_id: UUID) -> Run:
        """
        Raises:
            NotFound: not in this workspace.
        """
        found = self.runs().filter(pk=run_id).first()
        if found is None:
            raise NotFound
        return found


def recorded(run: Run, request: Request, *, replayed: bool) -> Response:
    """The answer to whatever made a run."""
    headers = {"Location": f"{request.path.partition('/runs')[0]}/runs/{run.pk}", **replay_headers(replayed=replayed)}
    return Response(shown(RunOut, run), status=status.HTTP_202_ACCEPTED, headers=headers)


class Runs(RunViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "runs.read",
        "retrieve": "runs.read",
        "create": "runs.submit",
        "cancel": "runs.cancel",
        "resolve": "runs.resolve",
    }
    filterset_class = RunFilter
    pagination_class = NewestFirst

    @extend_schema(operation_id="runs_list", tags=["runs"])
    def list(self, request: Request) -> Response:
        """The runs of the workspace, the newest first."""
        return self.paged(self.filter_queryset(self.runs()))

    @extend_schema(
        operation_id="runs_create",
        tags=["runs"],
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": SubmitRun, "multipart/form-data": FORM},
        responses={202: RunOut},
    )
    def create(self, request: Request) -> Response:
        """Submit a goal, a plan, or both.  202: the run is recorded, not done; follow its events."""
        run, replayed = services.submit(
            workspace_id=self.workspace_id,
            user=self.user,
            request=Submission(**checked(SubmitRun, request.data)),
            idempotency_key=idempotency_key(request),
        )
        return recorded(run, request, replayed=replayed)

    @extend_schema(operation_id="runs_retrieve", tags=["runs"], responses=RunOut)
    def retrieve(self, request: Request, run_id: UUID) -> Response:
        """One run."""
        return Response(shown(RunOut, self.run(run_id)))

    @extend_schema(operation_id="runs_cancel", tags=["runs"], request=None, responses=RunOut)
    def cancel(self, request: Request, run_id: UUID) -> Response:
        """Stop a run: no step starts any more, the running ones end.  409 when it has finished."""
        return Response(shown(RunOut, services.cancel(self.run(run_id), user=self.user)))

    @extend_schema(
        operation_id="steps_resolve",
        tags=["runs"],
        request=Resolution,
        responses=StepOut,
        parameters=[OpenApiParameter("key", OpenApiTypes.STR, OpenApiParameter.PATH)],
    )
    def resolve(self, request: Request, run_id: UUID, key: str) -> Response:
        """Decide what became of an unsafe call whose end nobody saw (status waiting, reason outcome_unknown)."""
        run, decision = self.run(run_id), checked(Resolution, request.data)
        return Response(shown(StepOut, services.resolve(run, key, user=self.user, **decision)))
