"""What goes over the wire to PostgreSQL, whoever sends it: Django, the engine's own cursor, BEGIN and COMMIT."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def requests() -> Iterator[list[str]]:
    """Fills, when the block has ended, with one entry for each time this thread's connection was waited for."""
    found: list[str] = []
    connection.ensure_connection()
    with tempfile.TemporaryFile() as file:
        pgconn = connection.connection.pgconn
        pgconn.trace(file.fileno())  # libpq's own account
        try:
            yield found
        finally:
            pgconn.untrace()
        file.seek(0)
        lines = [line.split("\t") for line in file.read().decode("utf-8", "replace").splitlines()]
        found += [
            line[3] for line in lines if len(line) > 3 and line[1] == "F" and line[3].split()[0] in ("Query", "Sync")
        ]
