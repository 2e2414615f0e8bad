"""What a user is in a workspace, asked once a request."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import F, OuterRef, QuerySet, Subquery

from agentsys.accounts import policy
from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.core.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Access:
    """A user in one workspace; ``role`` is None where there is no membership (any more)."""

    user: User
    workspace_id: UUID | None
    role: Role | None

    def allows(self, action: str) -> bool:
        """Whether policy.py permits it.  Costs no query."""
        return self.workspace_id is not None and policy.allows(self.role, action)

    def require(self, action: str) -> None:
        """
        Raises:
            Forbidden: the role does not allow it.
        """
        if not self.allows(action):
            have = f"Your role is {self.role}" if self.role else "You are no member of this workspace"
            raise Forbidden(f"{have}; that does not allow {action}.")


def as_member(user: User, workspace_id: UUID | None, role: str | None) -> Access:
    """The access of a user whose membership's role is known already.  Costs no query."""
    if workspace_id is None or not user.is_active:
        return Access(user, workspace_id, None)
    if user.is_superuser:
        return Access(user, workspace_id, Role.ADMIN)
    return Access(user, workspace_id, Role(role) if role else None)


def of(user: User, workspace_id: UUID) -> Access:
    """What ``user`` may do in this workspace.  Costs one query."""
    found = Membership.objects.filter(user=user, workspace_id=workspace_id)
    return as_member(user, workspace_id, found.values_list("role", flat=True).first())


def workspaces_of(user: User) -> "QuerySet[Workspace]":
    """The workspaces a user may enter, the default one (oldest membership) first."""
    mine = Membership.objects.filter(user=user, workspace=OuterRef("pk")).values("created_at")[:1]
    found = Workspace.objects.annotate(joined_at=Subquery(mine))
    if not user.is_superuser:
        found = found.filter(joined_at__isnull=False)
    return found.order_by(F("joined_at").asc(nulls_last=True), "created_at", "id")


def enter(user: User, slug: str | None = None) -> Workspace | None:
    """The workspace a session is for: the named one, or the default, or None when there is none.

    Raises:
        Forbidden: the named one does not exist, or the user is no member of it (not told apart).
    """
    if not slug:
        return workspaces_of(user).first()
    found = workspaces_of(user).filter(slug=slug).first()
    if found is None:
        raise Forbidden("You are not a member of a workspace of this name.")
    return found
