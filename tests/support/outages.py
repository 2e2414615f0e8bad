"""A connection that dies at the worst moment, on purpose and once."""

from typing import Any

import pytest
from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper

from agentsys.core import db
from agentsys.runs.store.sql import SQL


def _lost() -> OperationalError:
    return OperationalError("server closed the connection unexpectedly")


def lose_answer(monkeypatch: pytest.MonkeyPatch, name: str, *, executed: bool = True, times: int = 1) -> list[str]:
    """The statement ``name`` is executed (or not), and its answer is lost; the list says each time it was sent."""
    real, sent = db.rows, list[str]()

    def rows(sql: str, /, **params: Any) -> list[db.Row]:
        if sql != SQL[name]:
            return real(sql, **params)
        sent.append(name)
        if len(sent) > times:
            return real(sql, **params)
        if executed:
            real(sql, **params)
        raise _lost()

    monkeypatch.setattr(db, "rows", rows)
    return sent


def lose_commit(monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> list[bool]:
    """The connection dies in the next COMMIT, after PostgreSQL has done it or before."""
    real, done = DatabaseWrapper._commit, list[bool]()

    def commit(self: DatabaseWrapper) -> Any:
        if done:
            return real(self)
        done.append(committed)
        if committed:
            real(self)
        raise _lost()

    monkeypatch.setattr(DatabaseWrapper, "_commit", commit)
    return done
