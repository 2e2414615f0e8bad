"""Who is asking, in which workspace, and whether the policy lets them.

The workspace is the one the session was made for (the token's claim).  A superuser may name another
for one request with ``X-Workspace: slug``; from anybody else another workspace than the token's is
refused.  One query asks for the user, the role, the workspace and the session together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from agentsys.accounts.access import Access
from agentsys.accounts.models import User
from agentsys.api import tokens
from agentsys.core.errors import Forbidden

WORKSPACE_HEADER = "X-Workspace"
#: In a view's ``permits``: everybody who is logged in, without any role.
ANYBODY = ""


class WorkspaceJWTAuthentication(BaseAuthentication):
    """``Authorization: Bearer <access token>``; ``request.auth`` becomes an Access."""

    def authenticate(self, request: Request) -> tuple[User, Access] | None:
        raw = bearer(request)
        if raw is None:
            return None
        found = access_of(tokens.claims_of(raw), request.headers.get(WORKSPACE_HEADER))
        return found.user, found

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


def access_of(claims: Mapping[str, object], workspace: str | None = None) -> Access:
    """What valid claims give at this moment.  Costs one query.

    Raises:
        AuthenticationFailed: the user or the session is no longer good.
        Forbidden: another workspace is named than this user may enter.
    """
    found = tokens.find(claims, workspace=_slug(workspace))
    if workspace and not _may_enter(found, claims):
        raise Forbidden(f"{WORKSPACE_HEADER} names a workspace that this session is not for.")
    return found


def who_may(action: str, asked: Sequence[tuple[Mapping[str, object], str]]) -> list[bool]:
    """Whether each pair of valid claims and named workspace ("": none) still permits an action.  One query."""
    found = tokens.find_all([(claims, _slug(workspace)) for claims, workspace in asked])
    return [
        access is not None and (not workspace or _may_enter(access, claims)) and access.allows(action)
        for access, (claims, workspace) in zip(found, asked, strict=True)
    ]


def _slug(workspace: str | None) -> str | None:
    if not workspace:
        return None
    return workspace if workspace.isprintable() else " "


def _may_enter(access: Access, claims: Mapping[str, object]) -> bool:
    """Whether a workspace named by the request is the session's, or its user one who may name any."""
    theirs = str(access.workspace_id) == claims.get("workspace")
    return access.workspace_id is not None and (theirs or access.user.is_superuser)


def bearer(request: Request) -> bytes | None:
    """The token of the Authorization header, if there is one."""
    parts = get_authorization_header(request).split()
    if not parts or parts[0].lower() != b"bearer":
        return None
    if len(parts) != 2:
        raise AuthenticationFailed("Authorization must be: Bearer <token>.", tokens.INVALID)
    return parts[1]


class Permitted(Protocol):
    """A view that says what each of its actions needs; what it does not name is refused."""

    permits: ClassVar[Mapping[str, str]]
    action: str | None


class RolePermission(BasePermission):
    """Asks the policy for the view's action."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            raise NotAuthenticated("Log in: POST /api/v1/auth/token, then send Authorization: Bearer <access>.")
        asked: Permitted = view
        if asked.action in (None, "metadata"):
            return True  # no such method here: 405 follows
        needed = asked.permits[asked.action]
        if needed != ANYBODY:
            cast(Access, request.auth).require(needed)
        return True
