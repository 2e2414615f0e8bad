"""Making workspaces and members.  Each is safe to repeat, also by several processes at once."""

from django.db import transaction

from agentsys.accounts.models import Membership, Role, User, Workspace


def ensure_workspace(*, slug: str, name: str) -> Workspace:
    """The workspace of this slug, made if there is none; an existing one keeps its name."""
    return Workspace.objects.get_or_create(slug=slug, defaults={"name": name})[0]


@transaction.atomic
def ensure_superuser(*, username: str, password: str, reset: bool = False) -> tuple[User, bool]:
    """A superuser of this name; True when it was made now.

    An existing user keeps the password (a person may have changed it) unless ``reset``.

    Raises:
        ValueError: the user has to be made, or reset, and no password was given.
    """
    user, made = User.objects.get_or_create(
        username=username, defaults={"is_staff": True, "is_superuser": True, "password": "!"}
    )
    if made or reset:
        if not password:
            raise ValueError(f"no password for {username}")
        user.set_password(password)
        user.save(update_fields=["password"])
    return user, made


def ensure_member(*, workspace: Workspace, user: User, role: Role) -> Membership:
    """The user's membership; an existing one keeps its role."""
    return Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": role})[0]
