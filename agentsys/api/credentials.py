"""Credentials: secrets by name.  They go in and never come out."""

from collections.abc import Mapping
from typing import ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.accounts.credential_terms import LEAST_CHARS, MAX_CHARS, as_terms
from agentsys.accounts.models import Credential
from agentsys.api.fields import Body, Json, Row, checked, shown
from agentsys.api.schema import pages_of
from agentsys.api.views import METHODS, WorkspaceViews
from agentsys.runs import credentials
from agentsys.runs.credentials import Told


@extend_schema_field({"type": "string", "format": "password", "minLength": LEAST_CHARS, "maxLength": MAX_CHARS})
class Secret(Json):
    """Judged by the service; no message repeats it."""


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"})
class Name(Json):
    """Judged by the service."""


@extend_schema_field({"type": "array", "items": {"type": "string"}, "maxItems": 100})
class Names(Json):
    """Judged by the service."""


class Where(Body):
    tools = Names(required=False, help_text="Tools that it may be given to; none: nobody gets it.")
    agents = Names(required=False, help_text="Slugs of the agents whose runs may use it; none: all of the workspace.")
    hosts = Names(
        required=False,
        help_text="Where tools with an address (http.get, http.post) may take it: `host` by https, or `host:port`.",
    )


class CredentialIn(Where):
    """A name, its secret, and where it may go."""

    name = Name()
    secret = Secret()


class CredentialChange(Where):
    """Where it may go from now on, all anew; without ``secret`` that stays as it is."""

    secret = Secret(required=False)


class CredentialOut(Row):
    name = serializers.CharField(source="row.name")
    tools = serializers.ListField(source="row.tools", child=serializers.CharField())
    agents = serializers.ListField(source="row.agents", child=serializers.CharField())
    hosts = serializers.ListField(source="row.hosts", child=serializers.CharField())
    created_at = serializers.DateTimeField(source="row.created_at")
    updated_at = serializers.DateTimeField(source="row.updated_at")
    used_at = serializers.DateTimeField(source="row.used_at", allow_null=True, help_text="To about a minute.")
    used_by = serializers.CharField(source="row.used_by", help_text="The tool that had it then.")
    waiting_steps = serializers.IntegerField(help_text="So many wait for it, or to be allowed it.")


class Credentials(WorkspaceViews):
    http_method_names = (*METHODS, "put")
    permits: ClassVar[Mapping[str, str]] = {
        "list": "credentials.read",
        "retrieve": "credentials.read",
        "create": "credentials.write",
        "update": "credentials.write",
        "destroy": "credentials.write",
    }
    queryset = Credential.objects.none()
    serializer_class = CredentialOut
    pagination_class = None

    @extend_schema(operation_id="credentials_list", tags=["credentials"], responses=pages_of(CredentialOut))
    def list(self, request: Request) -> Response:
        """The workspace's credentials by name, without their secrets."""
        found = [_shown(told) for told in credentials.listed(self.workspace_id)]
        return Response({"next": None, "previous": None, "results": found})

    @extend_schema(
        operation_id="credentials_create", tags=["credentials"], request=CredentialIn, responses={201: CredentialOut}
    )
    def create(self, request: Request) -> Response:
        """Enter a secret under a name; 409 when there is one.  What waits for it goes on by itself."""
        given = checked(CredentialIn, request.data)
        made = credentials.create(self.workspace_id, given["name"], given["secret"], as_terms(given), user=self.user)
        return Response(_shown(made), status=status.HTTP_201_CREATED)

    @extend_schema(operation_id="credentials_retrieve", tags=["credentials"], responses=CredentialOut)
    def retrieve(self, request: Request, name: str) -> Response:
        """One credential, without its secret."""
        return Response(_shown(credentials.get(self.workspace_id, name)))

    @extend_schema(
        operation_id="credentials_update", tags=["credentials"], request=CredentialChange, responses=CredentialOut
    )
    def update(self, request: Request, name: str) -> Response:
        """Say anew where it may go, and enter another secret or keep it.  What waits for it goes on by itself."""
        given = checked(CredentialChange, request.data)
        terms = as_terms(given)
        return Response(_shown(credentials.change(self.workspace_id, name, given.get("secret"), terms, user=self.user)))

    @extend_schema(operation_id="credentials_delete", tags=["credentials"], responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """Forget a secret; steps that need it from now on wait."""
        credentials.remove(self.workspace_id, name, user=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _shown(told: Told) -> dict[str, object]:
    return shown(CredentialOut, told)
