"""Two at once: one wins, nothing is made twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from rest_framework.exceptions import AuthenticationFailed

from agentsys.accounts.models import Membership, User, Workspace
from agentsys.agents import versions
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion
from agentsys.api import tokens

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 4


def in_parallel(call: Callable[[], Any]) -> list[Any]:
    """The results of ``call`` from several threads that start together; an exception is a result."""
    barrier = Barrier(THREADS)

    def run() -> Any:
        try:
            barrier.wait(10)
            return call()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(30) for future in [pool.submit(run) for _ in range(THREADS)]]


def test_several_processes_that_seed_make_one_of_each(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

    results = in_parallel(lambda: call_command("seed", password="p", stdout=StringIO()))

    assert results == [None] * THREADS
    made = [model.objects.count() for model in (User, Workspace, Membership, Agent, AgentVersion)]
    assert made == [1] * 5


def test_authors_who_write_at_once_get_a_version_each(agent: Agent) -> None:
    made = in_parallel(lambda: versions.add_version(agent, definition=Definition()).number)

    assert sorted(made) == [*range(2, THREADS + 2)]
    agent.refresh_from_db()
    assert agent.current_version is not None
    assert agent.current_version.number == THREADS + 1


def test_of_two_who_use_a_refresh_token_at_once_none_keeps_the_session(make_user: Any, workspace: Workspace) -> None:
    pair = tokens.issue(make_user("ann"), workspace.pk)

    results = in_parallel(lambda: tokens.rotate(pair.refresh))

    won = [result for result in results if isinstance(result, tokens.Pair)]
    assert len(won) <= 1
    assert all(isinstance(result, AuthenticationFailed) for result in results if result not in won)
    for fresh in won:
        with pytest.raises(AuthenticationFailed):
            tokens.rotate(fresh.refresh)
