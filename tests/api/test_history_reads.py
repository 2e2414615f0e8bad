"""With a long past in the database, pages and lists read what they show and not history."""

import json

import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from psycopg import RawCursor

from agentsys.accounts.models import User
from agentsys.core import db
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs import retention
from agentsys.runs.store import sweeps
from agentsys.runs.store.prune import Terms
from tests.benchmarks import history
from tests.support.rows import sql

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
PAST = 3_000
#: Of each table; a page has at most 51 runs, or 101 events.
MOST_ROWS = 300


@pytest.fixture
def past(submit, worker):
    """A finished run, some thousands like it before it, and one that is live."""
    steps = [{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo", "depends_on": ["a"]}]
    run = worker.finish(submit(steps, labels={"team": "red"}))
    sql("UPDATE agents_agent SET name = name")
    connection.ensure_connection()
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        history.copy(other, run.pk, PAST)
    submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 1000}}])
    worker.work()
    return run


def read_rows(queries):
    """(rows read of one table, query), the most first; by running each query again."""
    found = []
    for query in queries:
        if not query["sql"].startswith(("SELECT", "WITH")) or "runs_" not in query["sql"]:
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
            answer = cursor.fetchone()[0]
        plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        found += [(rows, query["sql"]) for rows in scanned(plan)]
    return sorted(found, reverse=True)


def scanned(node):
    """Rows that each scan of a table of runs looked at."""
    if node.get("Relation Name", "").startswith("runs_"):
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for part in node.get("Plans", ()):
        yield from scanned(part)


def most_read(get, url):
    get(url)  # what a first request does once
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = get(url)
    assert answer.status_code == 200, answer.content[:300]
    reads = read_rows(queries.captured_queries)
    return reads[0] if reads else (0, "")


API = [
    "runs", "runs?limit=50&status=succeeded", "runs?status=failed", "runs?status=running&status=waiting",
    "runs?agent=assistant", "runs?label=team=red", "runs?label=team=blue", "runs?parent={run}", "approvals",
    "runs/{run}", "runs/{run}/steps", "runs/{run}/events", "runs/{run}/files",
]  # fmt: skip


@pytest.mark.promise("P22")
def test_the_api_reads_what_it_shows(past, viewer):
    wrong = {}
    for path in API:
        rows, query = most_read(viewer.get, f"/api/v1/{path.format(run=past.pk)}")
        if rows > MOST_ROWS:
            wrong[path] = (rows, query)
    assert wrong == {}


def test_the_next_pages_of_a_list_cost_the_same(past, viewer):
    url = "/api/v1/runs?limit=50"
    for _ in range(20):
        rows, query = most_read(viewer.get, url)
        assert rows <= MOST_ROWS, query
        url = viewer.get(url).json()["next"]


ADMIN = [
    "", "runs/run/", "runs/run/?status__exact=succeeded", "runs/run/?status__exact=waiting", "runs/run/{run}/change/",
    "runs/step/", "runs/approval/", "runs/run/?p=3",
]  # fmt: skip


def test_the_admin_reads_what_it_shows(past):
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    wrong = {}
    for path in ADMIN:
        rows, query = most_read(client.get, f"/admin/{path.format(run=past.pk)}")
        if rows > MOST_ROWS:
            wrong[path] = (rows, query)
    assert wrong == {}


@pytest.fixture
def statements(monkeypatch):
    """What the engine's own statements read, as (rows, text); each is explained before it is run."""
    found = []
    rows = db.rows

    def explained(statement, /, **params):
        if "runs_" in statement.text:
            values = [params[name] for name in statement.names]
            with transaction.atomic(), RawCursor(connection.connection) as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}", values)
                found.extend((rows, statement.text) for rows in scanned(cursor.fetchone()[0][0]["Plan"]))
                transaction.set_rollback(True)
        return rows(statement, **params)

    monkeypatch.setattr(db, "rows", explained)
    return found


@pytest.mark.promise("P22")
def test_the_sweepers_jobs_and_pruning_read_what_is_due(past, statements):
    with_contact = Sweeper(_contact_since=-1e9)
    for _ in range(3):
        with_contact.tick()
    sweeps.repair_stuck()
    assert dict(retention.prune_all(Terms(retention.policy()))).get("runs", 0) == 0
    assert len(statements) > 20
    assert max(statements) <= (MOST_ROWS, ""), max(statements)


@pytest.mark.promise("P22")
def test_what_a_worker_does_reads_what_it_moves(past, submit, worker, statements):
    steps = [{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo", "depends_on": ["a"]}]
    worker.finish(submit(steps))
    assert len(statements) > 10
    assert max(statements) <= (MOST_ROWS, ""), max(statements)
