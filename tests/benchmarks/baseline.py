"""What we are measured against: plain Celery, one task and one INSERT with commit a step; chains, and fans with a join.

The same broker, database, pool and step; a kept connection a child, as a careful user would have it.
"""

import json
import os
from typing import Any

import psycopg
from celery import Celery

from tests.benchmarks.work import CHAIN, FAN, payload

app = Celery("baseline", broker=os.environ.get("REDIS_URL", ""))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
    task_default_queue="baseline",
)
TABLES = """
CREATE TABLE IF NOT EXISTS baseline_fan (run int PRIMARY KEY, waits_for int);
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


@app.task(name="baseline.fan")
def fan(run: int, n: int) -> None:
    """Step 0 starts those beside each other; the last of these to end starts the one that waits for all."""
    row = [run, n, json.dumps(payload())]
    if n == 0:
        connection().execute(
            "WITH made AS (INSERT INTO baseline_fan VALUES (%s, %s)) "
            "INSERT INTO baseline_step (run, n, result) VALUES (%s, %s, %s)",
            [run, FAN, *row],
        )
        for beside in range(1, FAN + 1):
            fan.delay(run, beside)
        return
    left = connection().execute(
        "WITH made AS (INSERT INTO baseline_step (run, n, result) VALUES (%s, %s, %s)) "
        "UPDATE baseline_fan SET waits_for = waits_for - 1 WHERE run = %s RETURNING waits_for",
        [*row, run],
    )
    if left.fetchone() == (0,):
        fan.delay(run, FAN + 1)
