"""A pool of connections while PostgreSQL is away for longer than the pool's patience."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from agentsys.core import pool as core_pool
from agentsys.infrastructure.processes import free_port, wait_until


@contextlib.contextmanager
def forwarded(port: int, target: tuple[str, int]) -> Iterator[None]:
    """``port`` of 127.0.0.1 leads to ``target``, as if the server there had come back."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(*target)
        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield
    server.close()
    wait_until(lambda: len(asyncio.all_tasks(loop)) == 0, timeout_s=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:rolling back")
def test_who_waits_is_served_soon_after_postgresql_is_back(monkeypatch):
    monkeypatch.setattr(core_pool, "RECONNECT_TIMEOUT_S", 0.5)
    own = connection.settings_dict
    port = free_port()
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    kwargs = {name: own[django] for name, django in names.items()} | {"host": "127.0.0.1", "port": port}
    served: list[float] = []

    def wait(waiting: ConnectionPool) -> None:
        with waiting.connection(timeout=30) as connected:
            assert connected.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            served.append(time.monotonic())

    with ConnectionPool(
        kwargs=kwargs,
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
        with forwarded(port, (own["HOST"], int(own["PORT"]))):
            back = time.monotonic()
            waiter.join(10)
            assert served
            assert served[0] - back < 3
            tried.close()
