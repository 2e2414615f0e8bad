"""Whether this installation could run a step right now, and what keeps it from it.

Asked on a connection of its own with short time-outs: the pool would make an answer wait for a minute
while PostgreSQL is away.  PostgreSQL and a worker a lane are needed.  Redis is not: without it lanes are
polled, which is slow and complete, so its loss is told as degraded.
"""

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from agentsys.core import db
from agentsys.runs.states import Lane

SQL = db.load(Path(__file__).with_name("sql"))
TIMEOUT_S = 2
REDIS_TIMEOUT_S = 0.5
#: An answer is good for this long, so that asking often costs nothing.
KEEP_S = 1.0


@dataclass
class Readiness:
    """``missing`` keeps steps from running, ``degraded`` makes them slow; both in plain words."""

    missing: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    lanes: dict[str, bool] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.missing

    def as_dict(self) -> dict[str, Any]:
        return {"ready": self.ready, "missing": self.missing, "degraded": self.degraded, "lanes": self.lanes}


def readiness() -> Readiness:
    """The present state, at most ``KEEP_S`` old.  ~10 ms when it has to look."""
    return _readiness(int(time.monotonic() / KEEP_S))


@functools.lru_cache(maxsize=1)
def _readiness(_moment: int) -> Readiness:
    found = Readiness()
    try:
        with _connect() as connected:
            _look(connected, found)
    except psycopg.Error:
        found.missing.append("PostgreSQL does not answer")
    if not _redis_answers():
        found.degraded.append("Redis does not answer: lanes are polled once a second")
    return found


def _connect() -> "psycopg.Connection[Any]":
    own = connection.get_connection_params()
    wanted = {name: own[name] for name in own if name not in ("context", "cursor_factory", "prepare_threshold")}
    options = f"{wanted.pop('options', '')} -c statement_timeout={TIMEOUT_S * 1000}".strip()
    return psycopg.connect(**{**wanted, "connect_timeout": TIMEOUT_S, "options": options})


def _look(connected: "psycopg.Connection[Any]", found: Readiness) -> None:
    applied = {tuple(row) for row in _rows(connected, "applied_migrations")}
    if lacking := sorted(_migrations() - applied):
        names = ", ".join(f"{app}.{name}" for app, name in lacking[:5])
        found.missing.append(f"{len(lacking)} migrations are not applied ({names}…): manage.py migrate")
        return
    served = {row[0] for row in _rows(connected, "lanes_served")}
    found.lanes = {lane.value: lane.value in served for lane in Lane}
    found.missing += [
        f"no worker of lane {lane} was seen within a minute: python -m workers {lane}"
        for lane, is_served in found.lanes.items()
        if not is_served
    ]


def _rows(connected: "psycopg.Connection[Any]", name: str) -> list[tuple[Any, ...]]:
    return connected.execute(SQL[name].text.encode()).fetchall()


@functools.cache
def _migrations() -> frozenset[tuple[str, str]]:
    """What this version brings; read from the disk once a process (~0.1 s)."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return frozenset(loader.disk_migrations)


def _redis_answers() -> bool:
    try:
        return bool(_redis().ping())
    except (redis.RedisError, OSError):
        return False


@functools.cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
