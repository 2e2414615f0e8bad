"""Log in, go on, log out; and who one is."""

from collections.abc import Mapping
from dataclasses import asdict
from threading import BoundedSemaphore
from typing import Any, ClassVar

from django.contrib.auth import authenticate
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from agentsys.accounts import access, policy
from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.api import attempts, questions, tokens
from agentsys.api.auth import ANYBODY, WorkspaceJWTAuthentication
from agentsys.api.fields import Body, Text, checked, shown
from agentsys.api.views import METHODS, WorkspaceViews
from agentsys.core.errors import Forbidden

#: A password check takes 100 MB and a CPU for a moment; more at once would only starve the requests.
_HASHING = BoundedSemaphore(2)


class LogIn(Body):
    username = Text(max_length=150)
    password = Text(max_length=1000, trim_whitespace=False, style={"input_type": "password"})
    workspace = Text(max_length=50, required=False, help_text="A slug; default: your oldest membership.")


class RefreshToken(Body):
    refresh = Text(max_length=5000)


class TokenPair(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Send it as: Authorization: Bearer …; good for 15 minutes.")
    refresh = serializers.CharField(help_text="Good once, for 7 days, at auth/refresh.")


class Sessions(GenericViewSet[Any]):
    """Tokens for a name and a password; nobody is logged in yet."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    http_method_names = METHODS

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As for every other view: nothing is lost in a query string."""
        super().initial(request, *args, **kwargs)
        questions.check(request, ())

    def get_authenticate_header(self, request: Request) -> str:
        """Nobody authenticates here by header, but a refusal is a 401 all the same."""
        return WorkspaceJWTAuthentication().authenticate_header(request)

    @extend_schema(operation_id="auth_token", tags=["auth"], request=LogIn, responses=TokenPair)
    def log_in(self, request: Request) -> Response:
        """Log in.  Ten wrong passwords for one name within five minutes: 429."""
        given = checked(LogIn, request.data)
        user = _authenticated(request, given["username"], given["password"])
        workspace = access.enter(user, given.get("workspace"))
        if workspace is None and not user.is_superuser:
            raise Forbidden("You are not a member of any workspace.")
        return _uncached(asdict(tokens.issue(user, workspace.pk if workspace else None)))

    @extend_schema(operation_id="auth_refresh", tags=["auth"], request=RefreshToken, responses=TokenPair)
    def refresh(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair.  One used twice ends its whole session."""
        return _uncached(asdict(tokens.rotate(checked(RefreshToken, request.data)["refresh"])))

    @extend_schema(operation_id="auth_logout", tags=["auth"], request=RefreshToken, responses={204: None})
    def log_out(self, request: Request) -> Response:
        """End the session of a refresh token: all its tokens, at once."""
        tokens.revoke(checked(RefreshToken, request.data)["refresh"])
        return Response(status=status.HTTP_204_NO_CONTENT)


def _authenticated(request: Request, username: str, password: str) -> User:
    tries = attempts.of(username, str(request.META.get("REMOTE_ADDR", "")))
    tries.check()
    with _HASHING:
        user = authenticate(request._request, username=username, password=password)
    if not isinstance(user, User):
        tries.failed()
        raise AuthenticationFailed("The name or the password is wrong.", "authentication_failed")
    return user


def _uncached(body: Mapping[str, str]) -> Response:
    return Response(body, headers={"Cache-Control": "no-store"})


class WorkspaceOut(serializers.ModelSerializer[Workspace]):
    class Meta:
        model = Workspace
        fields = ["id", "slug", "name"]
        read_only_fields = fields


class MembershipOut(serializers.ModelSerializer[Membership]):
    workspace = WorkspaceOut()

    class Meta:
        model = Membership
        fields = ["workspace", "role"]
        read_only_fields = fields


class MeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    is_superuser = serializers.BooleanField()
    workspace = WorkspaceOut(allow_null=True, help_text="The workspace of this session.")
    role = serializers.ChoiceField(choices=Role.choices, allow_null=True)
    permissions = serializers.ListField(child=serializers.CharField(), help_text="What the role allows.")
    memberships = MembershipOut(many=True)


class Me(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {"retrieve": ANYBODY}

    @extend_schema(operation_id="me", tags=["auth"], responses=MeOut)
    def retrieve(self, request: Request) -> Response:
        """Who you are, where, and what you may do there."""
        user, here = self.user, self.access.workspace_id
        found = {
            "id": user.pk,
            "username": user.username,
            "email": user.email,
            "is_superuser": user.is_superuser,
            "workspace": Workspace.objects.filter(pk=here).first() if here else None,
            "role": self.access.role,
            "permissions": sorted(filter(self.access.allows, policy.ACTIONS)),
            "memberships": user.memberships.select_related("workspace").order_by("created_at", "id"),
        }
        return Response(shown(MeOut, found))
