"""Named SQL on Django's connection, with psycopg's server-side binding and prepared statements.

Django's own cursor binds on the client and wraps each call; for the engine's few hot statements that
costs more than PostgreSQL does (PERFORMANCE: a factor of 1.6 to 2.2).
"""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from django.db import InterfaceError, OperationalError, connection
from psycopg.rows import dict_row
from psycopg.types.json import JsonbLoader

T = TypeVar("T")
Row = dict[str, Any]
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_JSONB = psycopg.adapters.types["jsonb"].oid
_RETRIED = ("40P01", "40001")  # deadlock, serialization failure: PostgreSQL asks to do it again


def load(folder: Path) -> dict[str, str]:
    """Read every ``-- name: x`` statement of ``folder/*.sql``; names are unique across the files."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        parts = _NAME.split(file.read_text())
        for name, sql in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are named {name!r}")
            found[name] = sql.strip().rstrip(";")
    return found


def rows(sql: str, /, **params: Any) -> list[Row]:
    """Run one statement and fetch what it returns; its own transaction unless one is open."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection, row_factory=dict_row) as cursor:
        cursor.adapters.register_loader(_JSONB, JsonbLoader)  # Django leaves JSON to its fields
        cursor.execute(sql, params)  # type: ignore[arg-type]  # SQL comes from our own files only
        return cursor.fetchall() if cursor.description else []


def row(sql: str, /, **params: Any) -> Row | None:
    """The first row, or None."""
    found = rows(sql, **params)
    return found[0] if found else None


def release() -> None:
    """Give the connection back before work that needs none; keeps a persistent one."""
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()


def retrying(work: Callable[[], T], *, tries: int = 4) -> T:
    """Do ``work`` (a whole transaction) again when PostgreSQL rolled it back to break a tie."""
    for n in range(1, tries + 1):
        try:
            return work()
        except OperationalError as error:
            if n == tries or getattr(error.__cause__, "sqlstate", None) not in _RETRIED:
                raise
            time.sleep(random.uniform(0.0, 0.02 * 2**n))
    raise AssertionError("unreachable")


def persistent(work: Callable[[], T], *, for_s: float) -> T:
    """Do idempotent ``work`` again until the database answers, for at most ``for_s`` seconds.

    Only for writes that know whether they already happened: a connection that dies in COMMIT leaves
    that open, and the claim token of the next try answers it.
    """
    end = time.monotonic() + for_s
    pause_s = 0.05
    while True:
        try:
            return retrying(work)
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() >= end:
                raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(1.0, pause_s * 2)
