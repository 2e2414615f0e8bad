"""A connection that dies, by a seed: before a statement or after it, in a commit or just before."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper

from agentsys.core import db


class Faults:
    """Lets a statement or a commit fail by chance; counts what it did."""

    def __init__(self, seen: Any) -> None:
        self._seen = seen
        self._chance, self._rng = 0.0, Random(0)

    @contextmanager
    def by_chance(self, chance: float, rng: Random) -> Iterator[None]:
        """Within, with this probability, as ``rng`` draws it; outside, never."""
        self._chance, self._rng = chance, rng
        try:
            yield
        finally:
            self._chance = 0.0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real_rows, real_commit = db.rows, DatabaseWrapper._commit

        def rows(statement: db.Statement, /, **params: Any) -> list[db.Row]:
            self._maybe("before a statement")
            found = real_rows(statement, **params)
            self._maybe("after a statement")
            return found

        def commit(wrapper: DatabaseWrapper) -> Any:
            self._maybe("before a commit")
            done = real_commit(wrapper)
            self._maybe("unknown commit")
            return done

        patch.setattr(db, "rows", rows)
        patch.setattr(DatabaseWrapper, "_commit", commit)
        patch.setattr(db, "time", SimpleNamespace(monotonic=db.time.monotonic, sleep=lambda _s: None))

    def _maybe(self, where: str) -> None:
        if self._rng.random() < self._chance:
            self._seen[where] += 1
            raise OperationalError("server closed the connection unexpectedly")
