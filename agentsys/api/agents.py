"""Agents and their versions.  A version never changes; a change is the next version."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.accounts import keys
from agentsys.accounts.keys import Key
from agentsys.agents import services
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.api.fields import Body, Integer, Object, Slug, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.pages import Keyset
from agentsys.api.views import WorkspaceViews
from agentsys.core.errors import NotFound
from agentsys.runs.services import free_key

_DEFINITION = (
    "mode", "model", "fallback_models", "instructions", "tools", "output_schema", "limits", "approvals", "planning",
)  # fmt: skip


class NewVersion(Body):
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
        default=dict, help_text="What a person must approve: tools (names or all), expires_s, on_denied."
    )
    planning = Object(
        default=dict,
        help_text="How runs plan and act: replan_on_failure, max_plans, max_fan_out, max_repeats, max_turns.",
    )


class NewAgent(NewVersion):
    slug = Slug(max_length=50)
    name = Text(max_length=100)
    description = Text(max_length=2000, allow_blank=True, default="")


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
        fields = ["number", *_DEFINITION, "created_at"]
        read_only_fields = fields


class AgentOut(serializers.ModelSerializer[Agent]):
    current_version = VersionOut(allow_null=True)

    class Meta:
        model = Agent
        fields = ["slug", "name", "description", "current_version", "created_at"]
        read_only_fields = fields


class BySlug(Keyset):
    ordering = ("slug",)  # unique in a workspace


class NewestVersionFirst(Keyset):
    ordering = ("-number",)


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


class Agents(AgentViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "agents.read",
        "retrieve": "agents.read",
        "create": "agents.write",
        "partial_update": "agents.write",
        "destroy": "agents.write",
    }
    queryset = Agent.objects.none()
    serializer_class = AgentOut
    pagination_class = BySlug

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


class Versions(AgentViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "agents.read",
        "retrieve": "agents.read",
        "create": "agents.write",
    }
    queryset = AgentVersion.objects.none()
    serializer_class = VersionOut
    pagination_class = NewestVersionFirst

    @extend_schema(operation_id="versions_list", tags=["agents"])
    def list(self, request: Request, slug: str) -> Response:
        """The versions of an agent, the newest first."""
        return self.paged(self.agent(slug).versions.all())

    @extend_schema(
        operation_id="versions_create",
        tags=["agents"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewVersion,
        responses={201: VersionOut},
    )
    def create(self, request: Request, slug: str) -> Response:
        """Add the next version; new runs use it from now on, runs under way keep theirs."""
        found, given = self.agent(slug), checked(NewVersion, request.data)
        key = self.key("version", found.pk, given)
        made, replayed = keys.once(key, lambda: services.add_version(found, definition=Definition(**given)).pk)
        return self.created(VersionOut, found.versions.filter(pk=made).first(), replayed=replayed)

    @extend_schema(operation_id="versions_retrieve", tags=["agents"], responses=VersionOut)
    def retrieve(self, request: Request, slug: str, number: int) -> Response:
        """One version."""
        found = self.agent(slug).versions.filter(number=number).first()
        if found is None:
            raise NotFound
        return Response(shown(VersionOut, found))
