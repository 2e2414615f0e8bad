"""Points of failure: each time that this thread's connection waits for PostgreSQL.

That is every statement, COMMIT and ROLLBACK of whatever code sends it; points are discovered, never listed.
Connecting is none of them, nor is what another thread does.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from agentsys.runs.store.sql import SQL
from tests.failpoints.faults import Fault

_NAMES = {statement.text: name for name, statement in SQL.items()}
_REAL = psycopg.Connection.wait


class Points:
    """The points that were passed, by name; at number ``at`` (from 0) the fault is played, once."""

    def __init__(self, at: int | None = None, fault: Fault | None = None) -> None:
        self.passed: list[str] = []
        self.fired: str = ""
        self._at, self._fault, self._looking = at, fault, False

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within, it is the test that asks: no points."""
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, what this thread asks of PostgreSQL passes by here."""
        ours = threading.get_ident()
        with pytest.MonkeyPatch.context() as patch:

            def wait(conn: Any, gen: Any, *more: Any, **options: Any) -> Any:
                def real() -> Any:
                    return _REAL(conn, gen, *more, **options)

                if self._looking or threading.get_ident() != ours or gen.__name__ == "_set_autocommit_gen":
                    return real()  # the last of which sends nothing
                return self._pass(conn, _name(gen), real)

            patch.setattr(psycopg.Connection, "wait", wait)
            yield

    def _pass(self, conn: Any, name: str, real: Callable[[], Any]) -> Any:
        n = len(self.passed)
        self.passed.append(name)
        if n != self._at or self._fault is None:
            return real()
        self.fired = name
        return self._fault(conn, real)


def _name(gen: Any) -> str:
    """A statement's name in its file, or how it begins."""
    query = (gen.gi_frame.f_locals if gen.gi_frame else {}).get("query")
    if query is None:
        return str(gen.__name__).strip("_").removesuffix("_gen").upper()
    text = query.decode() if isinstance(query, bytes) else str(query)
    return _NAMES.get(text) or " ".join(text.split()[:2]) or "(asks whether it answers)"
