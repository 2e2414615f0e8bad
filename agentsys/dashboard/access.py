"""Who sees which rows here, and may do what to them: a person's role in the row's workspace.

A superuser crosses workspaces.  Everybody else needs ``is_staff`` to get in at all and a membership
for each workspace they see: the rest does not exist for them.
"""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest

from agentsys.accounts import policy
from agentsys.accounts.models import Membership, User

_KEY = "agentsys_roles"


def roles(request: HttpRequest) -> Mapping[UUID, str]:
    """The person's role in each workspace.  One query a request, the first time; none for a superuser."""
    found: Mapping[UUID, str] | None = vars(request).get(_KEY)
    if found is None:
        user = request.user
        mine = Membership.objects.filter(user_id=user.pk) if user.is_active and user.is_staff else ()
        found = {membership.workspace_id: membership.role for membership in mine}
        vars(request)[_KEY] = found
    return found


def crosses_workspaces(request: HttpRequest) -> bool:
    """Whether every workspace is theirs."""
    return bool(request.user.is_active and request.user.is_superuser)


def sees(request: HttpRequest, workspace_id: UUID) -> bool:
    """Whether they may read the rows of this workspace."""
    return crosses_workspaces(request) or workspace_id in roles(request)


def visible(request: HttpRequest, rows: QuerySet[Any], path: str = "workspace_id") -> QuerySet[Any]:
    """Those of ``rows`` whose workspace, found by ``path``, they may read."""
    if crosses_workspaces(request):
        return rows
    return rows.filter(**{f"{path}__in": list(roles(request))})


def writable(request: HttpRequest, action: str, rows: QuerySet[Any], path: str = "workspace_id") -> QuerySet[Any]:
    """Those of ``rows`` in whose workspace, found by ``path``, they may do ``action``."""
    if crosses_workspaces(request):
        return rows
    return rows.filter(**{f"{path}__in": [key for key in roles(request) if may(request, action, key)]})


def may(request: HttpRequest, action: str, workspace_id: UUID | None) -> bool:
    """Whether they may do ``action`` (a name of ``accounts.policy``) in this workspace."""
    if crosses_workspaces(request):
        return True
    return workspace_id is not None and policy.allows(roles(request).get(workspace_id), action)


def may_somewhere(request: HttpRequest, action: str) -> bool:
    """Whether there is a workspace in which they may do ``action``."""
    return crosses_workspaces(request) or any(policy.allows(role, action) for role in roles(request).values())


def require(request: HttpRequest, action: str, workspace_id: UUID) -> User:
    """The acting person.

    Raises:
        PermissionDenied: their role in this workspace does not allow ``action``.
    """
    if not may(request, action, workspace_id):
        raise PermissionDenied
    return cast(User, request.user)
