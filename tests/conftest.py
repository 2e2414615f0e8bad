"""What every test may use: people, workspaces, agents, runs, and a worker in this process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import TransactionTestCase

from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.infrastructure.embedded import Redis, scratch
from agentsys.runs import services
from agentsys.runs.models import Run, Step
from agentsys.runs.submission import Submission
from agentsys.tools import registry
from tests.support import emptying
from tests.support import priced as scripted_model
from tests.support import tools as test_tools
from tests.support.reports import pytest_terminal_summary  # noqa: F401 - a hook
from tests.support.worker import Worker


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    registry.load()
    assert test_tools.LOADED


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Plans are made as for our role (see ``infrastructure/role.py``): a race may end otherwise by another plan."""
    with django_db_blocker.unblock():
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        for given in ("enable_seqscan = off", "jit = off"):
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER DATABASE {name} SET {given}")
        connection.close_pool()


@pytest.fixture(scope="session", autouse=True)
def _quickly_emptied() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", emptying.empty)
        yield


@pytest.fixture
def no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears a bell."""
    monkeypatch.setattr(django_settings, "DISPATCHER", "tests.support.worker.silent")


@pytest.fixture
def own_redis(settings: Any) -> Iterator[Redis]:
    """A Redis that the test may kill, for the hints of this process."""
    with scratch() as folder:
        server = Redis(folder)
        settings.REDIS_URL = server.start()
        yield server
        server.stop()


@pytest.fixture
def workspace(db: Any) -> Workspace:
    return Workspace.objects.create(slug="home", name="Home")


@pytest.fixture
def make_user(workspace: Workspace) -> Callable[..., User]:
    """A user with a role in ``workspace`` (or in the one given)."""

    def make(name: str = "olga", role: str = Role.OPERATOR, where: Workspace | None = workspace) -> User:
        user = User.objects.create_user(name, password="correct horse battery")
        if where is not None:
            Membership.objects.create(workspace=where, user=user, role=role)
        return user

    return make


@pytest.fixture
def agent(workspace: Workspace) -> Agent:
    made = Agent.objects.create(workspace=workspace, slug="assistant", name="Assistant")
    made.current_version = AgentVersion.objects.create(workspace=workspace, agent=made, number=1)
    made.save()
    return made


@pytest.fixture
def submit(agent: Agent, no_bell: None) -> Callable[..., Run]:
    """Record a run; ``steps`` is short for a plan of these steps."""

    def make(steps: list[dict[str, Any]] | None = None, *, key: str = "", **fields: Any) -> Run:
        if steps is not None:
            fields["plan"] = {"steps": steps} | ({"answer": fields.pop("answer")} if "answer" in fields else {})
        request = Submission(agent=agent.slug, **fields)
        run, _ = services.submit(workspace_id=agent.workspace_id, user=None, request=request, idempotency_key=key)
        return run

    return make


@pytest.fixture
def worker() -> Worker:
    """A worker that lives in this process and does what is due when told."""
    return Worker("worker-a")


@pytest.fixture
def priced(settings: Any) -> scripted_model.Scripted:
    """The model of runs with ``model=priced.MODEL``: it has a price and does as it is told."""
    settings.MODEL_PROVIDERS, settings.MODEL_PRICES = "tests.support.priced.ask", "tests.support.priced.price"
    scripted_model.model.__init__()  # type: ignore[misc]
    return scripted_model.model


@pytest.fixture
def step_of() -> Callable[[Run, str], Step]:
    return lambda run, key: Step.objects.get(run=run, key=key)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Ids that are the same in every process: packed bytes carry the time at which they were packed."""
    return argname if isinstance(val, bytes) else None
