"""What can happen at a point of failure, to the connection or to the process."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

#: A fault gets the connection, and what would have been done.
Fault = Callable[[Any, Callable[[], Any]], Any]
#: How a process ends that a fault ends.
EXIT = 86


def _lost() -> psycopg.OperationalError:
    return psycopg.OperationalError("server closed the connection unexpectedly")


def refused(conn: Any, real: Callable[[], Any]) -> Any:
    """The statement or commit is not done, and an error says so; the connection is sound."""
    raise _lost()


def answered_with_an_error(conn: Any, real: Callable[[], Any]) -> Any:
    """It is done, and an error is raised all the same: an unknown commit where there is one."""
    real()
    raise _lost()


def cut_before(conn: Any, real: Callable[[], Any]) -> Any:
    """The connection is gone before it is sent."""
    _cut(conn)
    return real()


def cut_after(conn: Any, real: Callable[[], Any]) -> Any:
    """The connection is gone once it was done, with the answer."""
    real()
    _cut(conn)
    raise _lost()


def terminated(conn: Any, real: Callable[[], Any]) -> Any:
    """PostgreSQL has ended the connection, and says so."""
    with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
    return real()


def deadlocked(conn: Any, real: Callable[[], Any]) -> Any:
    """PostgreSQL breaks a tie, at our cost."""
    raise psycopg.errors.DeadlockDetected("deadlock detected")


def exits(conn: Any, real: Callable[[], Any]) -> Any:
    """The process ends before; which is as good as after the point before this one."""
    os._exit(EXIT)


def _cut(conn: Any) -> None:
    with socket.socket(fileno=os.dup(conn.fileno())) as wire, suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


OF_CONNECTIONS = (refused, answered_with_an_error, cut_before, cut_after)
#: Other words of PostgreSQL for the same.
MORE = (terminated, deadlocked)
