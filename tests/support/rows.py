"""The tables as a test needs them: photographed whole, or put by SQL where only time would bring them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from agentsys.runs.models import Run

_TABLES = (
    "runs_run",
    "runs_step",
    "runs_stepedge",
    "runs_attempt",
    "runs_event",
    "runs_runfile",
    "runs_approval",
    "runs_message",
    "runs_budget",
    "runs_reservation",
)


def sql(statement: str, *params: Any) -> int:
    """Execute a statement; how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.rowcount


def value(statement: str, *params: Any) -> Any:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()[0]


def photograph() -> dict[str, list[Any]]:
    """Every row of every table of the engine, to compare with what is there later."""
    with connection.cursor() as cursor:
        rows = {}
        for table in _TABLES:
            cursor.execute(f"SELECT to_jsonb(t)::text FROM {table} t ORDER BY to_jsonb(t)")
            rows[table] = [json.loads(row) for (row,) in cursor.fetchall()]
        return rows


@contextmanager
def unguarded() -> Iterator[None]:
    """Within, the tables' triggers look away; CHECKs and foreign keys do not."""
    guarded = ("runs_run", "runs_step", "runs_event", "runs_attempt", "runs_modelcall")
    for table in guarded:
        sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    try:
        yield
    finally:
        for table in guarded:
            sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@contextmanager
def without_rule(table: str, name: str) -> Iterator[None]:
    """Within, a CHECK is not there; afterwards all runs are gone, so that it can come back."""
    rule = value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", name)
    sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    try:
        yield
    finally:
        sql("DELETE FROM runs_run")
        sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule}")


def expire(run: Run) -> None:
    """The leases of a run's steps ran out a second ago."""
    sql(
        "UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 second'"
        " WHERE run_id = %s AND status = 'running'",
        run.pk,
    )


def wake_now(run: Run) -> None:
    """What sleeps in a run is due."""
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s AND status = 'sleeping'", run.pk)
