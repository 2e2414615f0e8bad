"""Versions of agents: drafts that change, published ones that runs use, retired ones."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.accounts import keys
from agentsys.agents import documents, versions
from agentsys.agents.definition import Definition
from agentsys.agents.models import AgentVersion, VersionStatus
from agentsys.api.agents import STATUSES, AgentViews, DefinitionBody, VersionOut, as_file
from agentsys.api.fields import Body, Boolean, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY
from agentsys.api.pages import Keyset


class NewVersion(DefinitionBody):
    status = serializers.ChoiceField(
        choices=STATUSES, default=VersionStatus.PUBLISHED, help_text="A draft can be changed, and is used by no run."
    )


class Publication(Body):
    current = Boolean(default=True, help_text="Whether new runs use it from now on.")


class Change(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class Differences(serializers.Serializer[Any]):
    changes = Change(many=True)
    text = serializers.CharField(allow_null=True, help_text="A unified diff of YAML; null where it would be too long.")


class NewestVersionFirst(Keyset):
    ordering = ("-number",)


class Versions(AgentViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "agents.read",
        "retrieve": "agents.read",
        "create": "agents.write",
        "partial_update": "agents.write",
        "destroy": "agents.write",
        "publish": "agents.write",
        "retire": "agents.write",
        "export": "agents.read",
        "diff": "agents.read",
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
        """Add the next version; unless it is a draft, new runs use it from now on, runs under way keep theirs."""
        found, given = self.agent(slug), checked(NewVersion, request.data)
        key = self.key("version", found.pk, given)
        state = given.pop("status")

        def add() -> Any:
            return versions.add_version(found, definition=Definition(**given), status=state).pk

        made, replayed = keys.once(key, add)
        return self.created(VersionOut, found.versions.filter(pk=made).first(), replayed=replayed)

    @extend_schema(operation_id="versions_retrieve", tags=["agents"], responses=VersionOut)
    def retrieve(self, request: Request, slug: str, number: int) -> Response:
        """One version."""
        return self._shown(versions.find(self.agent(slug), number))

    @extend_schema(operation_id="versions_update", tags=["agents"], request=DefinitionBody, responses=VersionOut)
    def partial_update(self, request: Request, slug: str, number: int) -> Response:
        """Change a draft: the fields that you send; 409 for any other version."""
        given = checked(DefinitionBody, request.data)
        sent = {name: value for name, value in given.items() if name in request.data}
        return self._shown(versions.change_draft(self.agent(slug), number, **sent))

    @extend_schema(operation_id="versions_delete", tags=["agents"], responses={204: None})
    def destroy(self, request: Request, slug: str, number: int) -> Response:
        """Delete a draft; 409 for any other version."""
        versions.discard(self.agent(slug), number)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(operation_id="versions_publish", tags=["agents"], request=Publication, responses=VersionOut)
    def publish(self, request: Request, slug: str, number: int) -> Response:
        """A draft changes no more, and new runs use it."""
        return self._shown(versions.publish(self.agent(slug), number, **checked(Publication, request.data)))

    @extend_schema(operation_id="versions_retire", tags=["agents"], request=None, responses=VersionOut)
    def retire(self, request: Request, slug: str, number: int) -> Response:
        """No new run uses a version any more; 409 for the current one."""
        return self._shown(versions.retire(self.agent(slug), number))

    @extend_schema(
        operation_id="versions_export", tags=["agents"], responses={(200, "application/yaml"): OpenApiTypes.STR}
    )
    def export(self, request: Request, slug: str, number: int) -> HttpResponse:
        """A version as a YAML file, which PUT of an agent takes back."""
        found = self.agent(slug)
        return as_file(found, versions.find(found, number))

    @extend_schema(operation_id="versions_diff", tags=["agents"], responses=Differences)
    def diff(self, request: Request, slug: str, number: int, since: int) -> Response:
        """What a version says otherwise than another one, ``since``."""
        agent = self.agent(slug)
        return Response(documents.differences(versions.find(agent, since), versions.find(agent, number)))

    def _shown(self, version: AgentVersion) -> Response:
        return Response(shown(VersionOut, version))
