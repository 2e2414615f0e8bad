"""People who look at the admin, and pages taken apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from selectolax.lexbor import LexborHTMLParser

from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.runs.models import Run, Step


@dataclass
class Browser:
    """A signed-in person without a browser: pages by their address."""

    client: Client

    def get(self, url: str, **query: Any) -> Any:
        return self.client.get(url, query)

    def post(self, url: str, **data: Any) -> Any:
        return self.client.post(url, data)

    def page(self, url: str, **query: Any) -> LexborHTMLParser:
        """The page at this address, which must be there."""
        answer = self.get(url, **query)
        assert answer.status_code == 200, (url, answer.status_code, answer.headers.get("Location"))
        return LexborHTMLParser(answer.content.decode())


@pytest.fixture
def superuser(db: Any) -> Browser:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return Browser(client)


@pytest.fixture
def staff(workspace: Workspace) -> Callable[..., Browser]:
    """A member of ``workspace`` (or the one given) in this role, who may enter the admin."""

    def make(role: str | None = Role.VIEWER, where: Workspace = workspace, *, is_staff: bool = True) -> Browser:
        user = User.objects.create(username=f"user{User.objects.count()}", is_staff=is_staff)
        if role is not None:
            Membership.objects.create(workspace=where, user=user, role=role)
        client = Client()
        client.force_login(user)
        return Browser(client)

    return make


@pytest.fixture
def elsewhere(db: Any) -> Workspace:
    return Workspace.objects.create(slug="elsewhere", name="Elsewhere")


def echo(key: str, value: Any = None, **fields: Any) -> dict[str, Any]:
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


@pytest.fixture
def undecided(submit: Callable[..., Run], worker: Any) -> Step:
    """A step whose unsafe call may or may not have happened."""
    charge = {"key": "charge", "tool": "test.charge", "arguments": {"how": "unknown"}}
    run = submit([charge, echo("after", "${charge}")])
    worker.work()
    step = Step.objects.get(run=run, key="charge")
    assert (step.status, step.reason) == ("waiting", "outcome_unknown")
    return step


def run_url(run: Run, part: str = "change") -> str:
    return f"/admin/runs/run/{run.pk}/{part}/"


def snapshot(model: Any) -> list[dict[str, Any]]:
    """Every row of a table."""
    return list(model.objects.order_by("pk").values())
