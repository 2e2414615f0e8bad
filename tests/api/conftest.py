"""Clients of the API: members of our workspace by role, and a stranger in a workspace of their own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from agentsys.accounts.models import Role, User, Workspace
from agentsys.agents import services as agents
from agentsys.api import tokens
from agentsys.core import db


@pytest.fixture(autouse=True)
def _quiet(settings: Any, no_bell: list[str]) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def other_workspace(db: Any) -> Workspace:
    made = Workspace.objects.create(slug="theirs", name="Theirs")
    agents.ensure_default(workspace_id=made.pk)
    return made


@pytest.fixture
def client_of() -> Callable[[User, Workspace | None], APIClient]:
    """A client whose session is for a workspace."""

    def make(user: User, workspace: Workspace | None) -> APIClient:
        client = APIClient()
        pair = tokens.issue(user, workspace.pk if workspace else None)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.access}")
        return client

    return make


@pytest.fixture
def member(workspace: Workspace, make_user: Any, client_of: Any) -> Callable[[str], APIClient]:
    """A client of a new member of our workspace with this role."""
    return lambda role: client_of(make_user(f"our-{role}", role), workspace)


@pytest.fixture
def viewer(member: Any) -> APIClient:
    return member(Role.VIEWER)


@pytest.fixture
def operator(member: Any) -> APIClient:
    return member(Role.OPERATOR)


@pytest.fixture
def author(member: Any) -> APIClient:
    return member(Role.AUTHOR)


@pytest.fixture
def stranger(other_workspace: Workspace, make_user: Any, client_of: Any) -> APIClient:
    """An admin, but of another workspace."""
    return client_of(make_user("stranger", Role.ADMIN, other_workspace), other_workspace)


@pytest.fixture
def nobody() -> APIClient:
    return APIClient()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[list[str]]]:
    """Every statement that goes to PostgreSQL, the ORM's and the named ones; savepoints are none."""

    @contextmanager
    def count() -> Iterator[list[str]]:
        seen: list[str] = []
        real = db.rows

        def rows(statement: db.Statement, /, **params: Any) -> list[db.Row]:
            seen.append(statement.text)
            return real(statement, **params)

        with monkeypatch.context() as patch, CaptureQueriesContext(connection) as captured:
            patch.setattr(db, "rows", rows)
            yield seen
        seen += [query["sql"] for query in captured.captured_queries if "SAVEPOINT" not in query["sql"]]

    return count


@pytest.fixture
def problem() -> Callable[..., dict[str, Any]]:
    """Asserts the shape of a refusal and gives its body."""

    def check(response: Any, status: int, code: str) -> dict[str, Any]:
        assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json"), (
            response.content
        )
        body = response.json()
        assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail"}
        assert (body["status"], body["code"]) == (status, code)
        return body

    return check
