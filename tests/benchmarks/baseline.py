"""What we are measured against: a plain Celery chain, one task and one INSERT with commit a step.

The same broker, database, pool and step; a kept connection a child, as a careful user would have it.
"""

import json
import os
from typing import Any

import psycopg
from celery import Celery

from tests.benchmarks.work import CHAIN, payload

app = Celery("baseline", broker=os.environ.get("REDIS_URL", ""))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
    task_default_queue="baseline",
)
TABLE = """
CREATE TABLE IF NOT EXISTS baseline_step (
    run int, n int, result jsonb, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (run, n)
)
"""
_kept: dict[int, psycopg.Connection[Any]] = {}


def connection() -> psycopg.Connection[Any]:
    pid = os.getpid()
    if pid not in _kept:
        _kept[pid] = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return _kept[pid]


@app.task(name="baseline.step")
def step(run: int, n: int) -> None:
    insert = "INSERT INTO baseline_step (run, n, result) VALUES (%s, %s, %s)"
    connection().execute(insert, [run, n, json.dumps(payload())])
    if n + 1 < CHAIN:
        step.delay(run, n + 1)
