"""Agents: defined as JSON or by the YAML file of one; their versions are in ``versions``."""

from collections.abc import Mapping
from typing import IO, Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.accounts import keys
from agentsys.accounts.keys import Key
from agentsys.agents import documents, services
from agentsys.agents.definition import FIELDS, Definition
from agentsys.agents.models import Agent, AgentVersion, Mode, VersionStatus
from agentsys.api.fields import Body, Integer, Object, Slug, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.pages import Keyset
from agentsys.api.parsing import StrictJSONParser, loads
from agentsys.api.views import METHODS, WorkspaceViews
from agentsys.core.errors import InvalidInput, NotFound, PayloadTooLarge
from agentsys.runs.services import free_key

#: Of a version that is made.
STATUSES = (VersionStatus.DRAFT, VersionStatus.PUBLISHED)


class DefinitionBody(Body):
    """What an agent is; fields that are left out are as a new agent has them."""

    mode = serializers.ChoiceField(choices=Mode.choices, default=Mode.PLAN)
    model = Text(max_length=200, allow_blank=True, default="", help_text="Empty: the installation's model.")
    fallback_models = serializers.ListField(
        child=Text(max_length=200), default=list, max_length=20,
        help_text="Asked in this order when the model cannot answer.",
    )  # fmt: skip
    instructions = Text(max_length=20_000, allow_blank=True, default="", trim_whitespace=False)
    tools = serializers.ListField(
        child=Text(max_length=100), default=list, max_length=500, help_text="Allowed tools; empty: all."
    )
    output_schema = Object(allow_null=True, default=None, help_text="JSON Schema of results.")
    limits = Object(default=dict, help_text="steps, tokens, cost_usd, time_s, parallel")
    approvals = Object(
        default=dict,
        help_text="What a person must approve: tools (names or all), expires_s, on_denied, trust ({tool: sources}).",
    )
    planning = Object(
        default=dict,
        help_text="How runs plan and act: replan_on_failure, max_plans, max_fan_out, max_repeats, max_turns.",
    )


class NewAgent(DefinitionBody):
    slug = Slug(max_length=50)
    name = Text(max_length=100)
    description = Text(max_length=2000, allow_blank=True, default="")


class WholeAgent(DefinitionBody):
    """An agent as its exported file has it."""

    slug = Slug(max_length=50, required=False, help_text="The one of the address, if it is there.")
    name = Text(max_length=100)
    description = Text(max_length=2000, allow_blank=True, default="")
    status = serializers.ChoiceField(
        choices=STATUSES, default=VersionStatus.PUBLISHED, help_text="Of the version that is made."
    )


class AgentChange(Body):
    name = Text(max_length=100, required=False)
    description = Text(max_length=2000, allow_blank=True, required=False)
    current_version = Integer(required=False, help_text="Which version new runs use.")


class VersionOut(serializers.ModelSerializer[AgentVersion]):
    output_schema = serializers.DictField(allow_null=True)
    fallback_models = serializers.ListField(child=serializers.CharField())
    tools = serializers.ListField(child=serializers.CharField())
    limits = serializers.DictField()
    approvals = serializers.DictField()
    planning = serializers.DictField()

    class Meta:
        model = AgentVersion
        fields = ["number", "status", *FIELDS, "prompts", "created_at"]
        read_only_fields = fields


class AgentOut(serializers.ModelSerializer[Agent]):
    current_version = VersionOut(allow_null=True)

    class Meta:
        model = Agent
        fields = ["slug", "name", "description", "current_version", "created_at"]
        read_only_fields = fields


class YamlParser(BaseParser):
    """An agent's file."""

    media_type = documents.CONTENT_TYPE

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        """
        Raises:
            PayloadTooLarge: larger than any agent is.
            InvalidInput: no YAML of what JSON can say.
            ParseError: (400) not text in UTF-8, or what cannot be stored.
        """
        raw = stream.read(documents.MAX_BYTES + 1)
        if len(raw) > documents.MAX_BYTES:
            raise PayloadTooLarge(f"An agent's file has at most {documents.MAX_BYTES:,} bytes.")
        try:
            return loads(documents.read(raw.decode()))
        except UnicodeDecodeError:
            raise ParseError("The document is not UTF-8.") from None


class BySlug(Keyset):
    ordering = ("slug",)  # unique in a workspace


class AgentViews(WorkspaceViews):
    """What both views of this file share."""

    def agents(self) -> "QuerySet[Agent]":
        return Agent.objects.filter(workspace_id=self.workspace_id).select_related("current_version")

    def agent(self, slug: str) -> Agent:
        """
        Raises:
            NotFound: not in this workspace.
        """
        found = self.agents().filter(slug=slug).first()
        if found is None:
            raise NotFound
        return found

    def key(self, *asked: Any) -> Key | None:
        """The request's Idempotency-Key, for what is asked for."""
        return free_key(self.workspace_id, idempotency_key(self.request), *asked)

    def created(self, kind: type[serializers.Serializer[Any]], row: Any, *, replayed: bool) -> Response:
        """
        Raises:
            NotFound: it was made before, and is gone.
        """
        if row is None:
            raise NotFound("What this Idempotency-Key has made is gone.")
        headers = replay_headers(replayed=replayed)
        return Response(shown(kind, row), status=status.HTTP_201_CREATED, headers=headers)


def as_file(agent: Agent, version: AgentVersion) -> HttpResponse:
    """A version as a file to keep."""
    headers = {"Content-Disposition": f'attachment; filename="{documents.file_name(agent, version)}"'}
    return HttpResponse(documents.export(agent, version), content_type=documents.CONTENT_TYPE, headers=headers)


class Agents(AgentViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "agents.read",
        "retrieve": "agents.read",
        "create": "agents.write",
        "update": "agents.write",
        "partial_update": "agents.write",
        "destroy": "agents.write",
        "export": "agents.read",
    }
    queryset = Agent.objects.none()
    serializer_class = AgentOut
    pagination_class = BySlug
    http_method_names = (*METHODS, "put")
    parser_classes = (StrictJSONParser, YamlParser)

    @extend_schema(operation_id="agents_list", tags=["agents"])
    def list(self, request: Request) -> Response:
        """The agents of the workspace."""
        return self.paged(self.agents())

    @extend_schema(
        operation_id="agents_create",
        tags=["agents"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewAgent,
        responses={201: AgentOut},
    )
    def create(self, request: Request) -> Response:
        """Define an agent; what you send becomes its version 1."""
        given = checked(NewAgent, request.data)
        key = self.key("agent", given)
        named = {name: given.pop(name) for name in ("slug", "name", "description")}

        def create() -> UUID:
            return services.create_agent(workspace_id=self.workspace_id, definition=Definition(**given), **named).pk

        made, replayed = keys.once(key, create)
        return self.created(AgentOut, self.agents().filter(pk=made).first(), replayed=replayed)

    @extend_schema(operation_id="agents_retrieve", tags=["agents"], responses=AgentOut)
    def retrieve(self, request: Request, slug: str) -> Response:
        """One agent with its current version."""
        return Response(shown(AgentOut, self.agent(slug)))

    @extend_schema(
        operation_id="agents_put",
        tags=["agents"],
        request={"application/json": WholeAgent, "application/yaml": WholeAgent},
        responses={200: AgentOut, 201: AgentOut},
    )
    def update(self, request: Request, slug: str) -> Response:
        """Let an agent be as this document says: a new one, or with a next version if the newest one says otherwise."""
        given = checked(WholeAgent, request.data)
        if given.pop("slug", slug) != slug:
            message = f"The document is of another agent than {slug!r}."
            raise InvalidInput(message, errors=[{"path": "slug", "code": "bad_value", "message": message}])
        named = {name: given.pop(name) for name in ("name", "description", "status")}
        made, is_new = services.put_agent(
            workspace_id=self.workspace_id, slug=slug, definition=Definition(**given), **named
        )
        body = shown(AgentOut, self.agents().get(pk=made.pk))
        return Response(body, status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)

    @extend_schema(
        operation_id="agents_export", tags=["agents"], responses={(200, "application/yaml"): OpenApiTypes.STR}
    )
    def export(self, request: Request, slug: str) -> HttpResponse:
        """The agent's current version as a YAML file, which PUT takes back."""
        found = self.agent(slug)
        if found.current_version is None:
            raise NotFound
        return as_file(found, found.current_version)

    @extend_schema(operation_id="agents_update", tags=["agents"], request=AgentChange, responses=AgentOut)
    def partial_update(self, request: Request, slug: str) -> Response:
        """Rename an agent, or choose another of its versions for new runs."""
        found = self.agent(slug)
        return Response(shown(AgentOut, services.change_agent(found, **checked(AgentChange, request.data))))

    @extend_schema(operation_id="agents_delete", tags=["agents"], responses={204: None})
    def destroy(self, request: Request, slug: str) -> Response:
        """Delete an agent that never had a run; 409 for any other."""
        services.delete_agent(self.agent(slug))
        return Response(status=status.HTTP_204_NO_CONTENT)
