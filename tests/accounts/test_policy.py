"""Who may do what."""

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentsys.accounts import access, policy
from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.core.errors import Forbidden

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (Role.VIEWER, "runs.read", "runs.submit"),
        (Role.OPERATOR, "runs.cancel", "agents.write"),
        (Role.AUTHOR, "agents.write", "members.write"),
        (Role.AUTHOR, "lanes.read", "lanes.write"),
    ],
)
def test_each_role_has_its_bounds(role: Role, may: str, may_not: str) -> None:
    assert policy.allows(role, may)
    assert not policy.allows(role, may_not)


def test_a_role_may_do_what_the_ones_before_it_may() -> None:
    permitted = [policy.PERMITTED[role] for role in Role]

    assert all(less < more for less, more in pairwise(permitted))


def test_without_a_role_nobody_may_anything() -> None:
    assert not any(policy.allows(None, action) for action in policy.ACTIONS)


def test_an_action_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"runs\.delete"):
        policy.allows(Role.ADMIN, "runs.delete")


def test_every_action_that_a_view_asks_for_is_in_the_table() -> None:
    views = (ROOT / "agentsys" / "api").glob("*.py")
    trees = [ast.parse(path.read_text()) for path in views]
    tables = [
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "permits"
    ]
    asked = {value.value for table in tables if isinstance(table, ast.Dict) for value in table.values
             if isinstance(value, ast.Constant)}  # fmt: skip

    assert asked
    assert asked <= policy.ACTIONS


@pytest.fixture
def other(db: Any) -> Workspace:
    return Workspace.objects.create(slug="other", name="Other")


def test_access_is_a_members_role_and_a_superusers_admin(
    make_user: Any, workspace: Workspace, other: Workspace
) -> None:
    ann, root = make_user("ann", Role.AUTHOR), make_user("root", where=None)
    root.is_superuser = True

    assert access.of(ann, workspace.pk).role == Role.AUTHOR
    assert access.of(ann, other.pk).role is None
    assert access.of(root, other.pk).role == Role.ADMIN
    with pytest.raises(Forbidden, match="no member"):
        access.of(ann, other.pk).require("runs.read")


def test_an_inactive_user_has_no_access_at_all(make_user: Any, workspace: Workspace) -> None:
    ann = make_user("ann", Role.ADMIN)
    ann.is_active = False
    ann.is_superuser = True

    assert not access.of(ann, workspace.pk).allows("runs.read")


def test_the_oldest_membership_is_entered_by_default(make_user: Any, workspace: Workspace, other: Workspace) -> None:
    ann = make_user("ann")
    Membership.objects.create(user=ann, workspace=other, role=Role.ADMIN)

    assert access.enter(ann) == workspace
    assert access.enter(ann, "other") == other


def test_a_superuser_enters_any_workspace_the_own_first(make_user: Any, workspace: Workspace, other: Workspace) -> None:
    root = make_user("root", where=other)
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    root.refresh_from_db()

    assert access.enter(root) == other
    assert access.enter(root, "home") == workspace


def test_nobody_enters_where_they_do_not_belong(make_user: Any, other: Workspace) -> None:
    assert access.enter(make_user("lone", where=None)) is None
    with pytest.raises(Forbidden):
        access.enter(make_user("ann"), "other")
