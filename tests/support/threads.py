"""Threads that meet PostgreSQL at the same moment, each on a connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

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
