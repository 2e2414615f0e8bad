"""The pool of connections when PostgreSQL has dropped them all, and while it is away for longer than it is patient."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg_pool import PoolTimeout

from agentsys.core import pool as core_pool
from agentsys.infrastructure.processes import free_port, wait_until
from tests.support.rows import value
from tests.support.threads import in_parallel, until

SIZE = 10
SOON_S = 5.0  # a first look at a dead connection, and a new one; the pauses of old were a minute


def address() -> dict[str, Any]:
    """The test database's, for a connection beside Django's."""
    own = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return {name: own[django] for name, django in names.items()}


def fill_pool() -> None:
    """As many connections as it may have, all idle in it."""
    connection.close()
    in_parallel(*[lambda: value("SELECT pg_backend_pid()")] * SIZE)
    assert connection.pool.get_stats()["pool_available"] == SIZE


def terminate_all() -> int:
    """What a restart of PostgreSQL does to every connection of Django's; how many there were."""
    with psycopg.connect(**address(), autocommit=True) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchall()
    return len(ended)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.monotonic()
    return work(), time.monotonic() - begun


@pytest.mark.django_db(transaction=True)
def test_after_every_idle_connection_has_died_the_next_question_is_answered_at_once() -> None:
    fill_pool()
    assert terminate_all() >= SIZE

    answer, took_s = timed(lambda: value("SELECT 7"))

    assert answer == 7
    assert took_s < SOON_S
    connection.close()
    assert connection.pool.get_stats()["pool_size"] <= SIZE


@pytest.mark.django_db(transaction=True)
def test_four_times_more_clients_than_connections_are_all_served_soon_after_they_died() -> None:
    fill_pool()
    start = threading.Barrier(4 * SIZE, timeout=30)
    took: list[float] = []

    def ask() -> None:
        start.wait()
        for n in range(5):
            answer, took_s = timed(lambda n=n: value("SELECT %s::int", n))
            took.append(took_s)
            assert answer == n
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4 * SIZE)]
    assert terminate_all() >= SIZE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(took) == 4 * SIZE * 5
    assert max(took) < SOON_S
    until(lambda: counts() == (SIZE, SIZE, 0))  # the last of them are still being made


def counts() -> tuple[int, int, int]:
    stats = connection.pool.get_stats()
    return stats["pool_size"], stats["pool_available"], stats["requests_waiting"]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_died_in_somebodys_hands_is_not_handed_on() -> None:
    fill_pool()

    def idle_in_hand() -> None:
        connection.ensure_connection()
        in_hand.wait()
        dead.wait()
        connection.close()  # it does not know yet

    in_hand, dead = threading.Barrier(SIZE + 1, timeout=30), threading.Barrier(SIZE + 1, timeout=30)
    holders = [threading.Thread(target=idle_in_hand) for _ in range(SIZE)]
    for holder in holders:
        holder.start()
    in_hand.wait()
    assert terminate_all() >= SIZE
    dead.wait()
    for holder in holders:
        holder.join(30)

    answer, took_s = timed(lambda: value("SELECT 7"))

    assert (answer, took_s < SOON_S) == (7, True)
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_connection_used_a_moment_ago_is_handed_out_without_a_question_unless_it_is_dead(monkeypatch) -> None:
    fill_pool()
    asked: list[Any] = []
    check = connection.pool.check_connection
    monkeypatch.setattr(connection.pool, "check_connection", lambda given: asked.append(given) or check(given))

    assert value("SELECT 7") == 7
    connection.close()
    assert asked == []
    assert terminate_all() >= SIZE
    assert value("SELECT 8") == 8
    connection.close()
    assert asked
    assert value("SELECT 9") == 9


@pytest.mark.django_db(transaction=True)
def test_connections_that_die_as_soon_as_they_are_made_are_not_asked_for_without_pause(monkeypatch) -> None:
    def die(_: Any) -> None:
        raise psycopg.OperationalError("the connection is closed")

    connection.close()
    pool = connection.pool
    made = pool.get_stats().get("connections_num", 0)
    with monkeypatch.context() as dying:
        dying.setattr(core_pool, "FRESH_S", 0.0)
        dying.setattr(pool, "check_connection", die)
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=1.0)

    assert pool.get_stats()["connections_num"] - made < SIZE + 20
    answer, took_s = timed(lambda: value("SELECT 7"))
    assert (answer, took_s < SOON_S) == (7, True)


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:rolling back")
def test_who_waits_is_served_soon_after_postgresql_is_back(monkeypatch):
    monkeypatch.setattr(core_pool, "RECONNECT_TIMEOUT_S", 0.5)
    own = address()
    now = {"port": free_port()}  # nobody listens there
    served: list[float] = []

    def wait(waiting: core_pool.Pool) -> None:
        with waiting.connection(timeout=30) as connected:
            assert connected.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            served.append(time.monotonic())

    with core_pool.Pool(
        kwargs=lambda: own | now,
        min_size=0,
        max_size=2,
        open=True,
        reconnect_timeout=core_pool.RECONNECT_TIMEOUT_S,
        reconnect_failed=core_pool.keep_trying,
    ) as tried:
        waiter = threading.Thread(target=wait, args=(tried,))
        waiter.start()
        # Several rounds of tries fail: without keep_trying there would be one.
        assert wait_until(lambda: tried.get_stats().get("connections_errors", 0) >= 5, timeout_s=20)
        assert not served
        now["port"] = own["port"]
        back = time.monotonic()
        waiter.join(30)
        assert served
        assert served[0] - back < 3
