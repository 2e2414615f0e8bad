"""Threads that meet PostgreSQL at the same moment, each on a connection of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tests.support.rows import value

TIMEOUT_S = 30


def in_parallel(*works: Callable[[], Any]) -> list[Any]:
    """Do all works at once and return what each returned; the first exception of one is raised."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()  # connecting takes longest, so it comes before the start
            barrier.wait(TIMEOUT_S)
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(one, work) for work in works]
        return [future.result(TIMEOUT_S) for future in futures]


def in_a_crowd(*works: Callable[[], Any]) -> list[Any]:
    """As in_parallel, for more works than there are connections: they start at once and queue for one each."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        try:
            barrier.wait(TIMEOUT_S)
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(one, work) for work in works]
        return [future.result(TIMEOUT_S) for future in futures]


@contextmanager
def background() -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """Start works one after the other; all have ended when the block has."""

    def closing(work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        yield lambda work: pool.submit(closing, work)


def until(condition: Callable[[], bool]) -> None:
    """Look until it is so."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def waiting_for_locks() -> int:
    """How many connections to this database wait for a lock of another."""
    value("SELECT pg_stat_clear_snapshot()::text")
    return value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
