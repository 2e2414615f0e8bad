"""`manage.py seed`: what an empty installation needs, made once."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.agents.models import Agent

pytestmark = pytest.mark.django_db
COUNTED = (User, Workspace, Membership, Agent)


@pytest.fixture(autouse=True)
def _no_password_set(settings: Any) -> None:
    settings.DEFAULT_ADMIN_PASSWORD = ""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def seed(**options: Any) -> str:
    out = StringIO()
    call_command("seed", stdout=out, **options)
    return out.getvalue()


def test_an_empty_installation_gets_a_workspace_an_admin_and_an_agent() -> None:
    said = seed(password="a good one")

    admin = User.objects.get()
    assert (admin.username, admin.is_staff, admin.is_superuser) == ("admin", True, True)
    assert admin.check_password("a good one")
    assert "a good one" not in said
    assert Membership.objects.get(user=admin).role == Role.ADMIN
    agent = Agent.objects.get()
    assert agent.current_version is not None
    assert (agent.workspace.slug, agent.slug, agent.current_version.number) == ("default", "assistant", 1)
    assert (agent.current_version.mode, agent.current_version.tools) == ("plan", [])


def test_the_password_comes_from_the_settings(settings: Any) -> None:
    settings.DEFAULT_ADMIN_PASSWORD = "from the environment"

    seed()

    assert User.objects.get().check_password("from the environment")


def test_a_second_time_changes_nothing() -> None:
    seed(password="first")
    User.objects.update(email="kept@example.com")
    Membership.objects.update(role=Role.VIEWER)

    said = seed(password="second")

    assert "there already" in said
    assert [model.objects.count() for model in COUNTED] == [1, 1, 1, 1]
    assert User.objects.get().check_password("first")
    assert User.objects.get().email == "kept@example.com"
    assert Membership.objects.get().role == Role.VIEWER


def test_a_lost_password_is_replaced_when_asked_to() -> None:
    seed(password="first")

    seed(password="second", reset_password=True)

    assert User.objects.get().check_password("second")


def test_without_a_password_nothing_is_made() -> None:
    with pytest.raises(CommandError, match="DEFAULT_ADMIN_PASSWORD"):
        seed()

    assert [model.objects.count() for model in COUNTED] == [0, 0, 0, 0]
