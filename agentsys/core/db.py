"""Named SQL on Django's connection, with psycopg's server-side binding and prepared statements.

Django's own cursor binds on the client and wraps each call; for the engine's few hot statements that
costs more than PostgreSQL does (PERFORMANCE: a factor of 1.6 to 2.2).
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Model
from psycopg import RawCursor
from psycopg.pq import ExecStatus
from psycopg.types.json import JsonbLoader

from agentsys.core.errors import DatabaseUnavailable

T = TypeVar("T")
M = TypeVar("M", bound=Model)
Row = dict[str, Any]
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_COMMENT = re.compile(r"--[^\n]*")
_JSONB = psycopg.adapters.types["jsonb"].oid
_RETRIED = ("40P01", "40001")  # deadlock, serialization failure: PostgreSQL asks to do it again


class Statement(NamedTuple):
    """A statement in PostgreSQL's own form: ``$1``… in the order of ``names``.

    Translated once at import: psycopg's own translation is cached only for short statements.
    """

    text: str
    names: tuple[str, ...]


def load(folder: Path) -> dict[str, Statement]:
    """Read every ``-- name: x`` statement of ``folder/*.sql``; names are unique across the files."""
    found: dict[str, Statement] = {}
    for file in sorted(folder.glob("*.sql")):
        parts = _NAME.split(file.read_text())
        for name, sql in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are named {name!r}")
            found[name] = _translated(sql)
    return found


def _translated(sql: str) -> Statement:
    text = " ".join(_COMMENT.sub("", sql).split()).rstrip("; ")
    names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    return Statement(_PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text), names)


def _as_dicts(cursor: Any) -> Callable[[Sequence[Any]], Row]:
    """psycopg's dict_row without its description objects, which cost more than a row's values."""
    result = cursor.pgresult
    if result is None:
        return lambda _values: {}
    names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
    return lambda values: dict(zip(names, values, strict=True))


def rows(statement: Statement, /, **params: Any) -> list[Row]:
    """Run one statement and fetch what it returns; its own transaction unless one is open."""
    connection.ensure_connection()
    values = [params[name] for name in statement.names]
    with connection.wrap_database_errors, RawCursor(connection.connection, row_factory=_as_dicts) as cursor:
        cursor.adapters.register_loader(_JSONB, JsonbLoader)  # Django leaves JSON to its fields
        cursor.execute(statement.text, values)
        answer = cursor.pgresult
        return cursor.fetchall() if answer is not None and answer.status == ExecStatus.TUPLES_OK else []


def row(statement: Statement, /, **params: Any) -> Row | None:
    """The first row, or None."""
    found = rows(statement, **params)
    return found[0] if found else None


def instance(model: type[M], row: Row) -> M:
    """A row with all columns of ``model``, in any order, as its stored instance."""
    made = model(**row)
    made._state.adding, made._state.db = False, connection.alias
    return made


def release() -> None:
    """Give the connection back before work that needs none; keeps a persistent one."""
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()


@contextmanager
def lent() -> Iterator[None]:
    """For a call in the middle of a tool: an absence of PostgreSQL is an error of the catalogue, and the
    connection is given back.

    Raises:
        DatabaseUnavailable: the connection was lost or could not be made.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise DatabaseUnavailable from error
    finally:
        release()


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
