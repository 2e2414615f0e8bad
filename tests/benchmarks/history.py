"""A database with a past: copies of one finished run, made by PostgreSQL itself."""

from typing import Any

import psycopg

BATCH = 20_000

#: The n-th copy's id, with a time in it that counts a minute a run back from ``days`` ago, and when it was made.
_COPIES = """
CREATE TEMP TABLE copies AS
SELECT n, made.at, runs_id_at(made.at)::text AS floor, gen_random_uuid()::text AS random, NULL::uuid AS id,
       %(first)s + (n - %(low)s) * %(steps)s AS first_step
  FROM generate_series(%(low)s::bigint, %(high)s) n,
       LATERAL (SELECT statement_timestamp()
                       - make_interval(secs => %(days)s * 86400 + (%(runs)s - n) * 0.1) AS at) made;
UPDATE copies SET id = (left(floor, 14) || '7' || right(random, 21))::uuid;
"""
_RUNS = """
INSERT INTO runs_run SELECT x.*
  FROM copies c, runs_run r, LATERAL jsonb_populate_record(r, jsonb_build_object('id', c.id, 'idempotency_key', NULL,
       'created_at', c.at, 'started_at', c.at, 'finished_at', c.at + interval '1 second')) x
 WHERE r.id = %(run)s
"""
_STEPS = """
INSERT INTO runs_step SELECT x.*
  FROM copies c, (SELECT s, row_number() OVER (ORDER BY id) - 1 AS n FROM runs_step s WHERE run_id = %(run)s) t,
       LATERAL jsonb_populate_record(t.s, jsonb_build_object('id', c.first_step + t.n, 'run_id', c.id,
       'claim_token', md5('attempt' || (c.first_step + t.n))::uuid, 'finished_at', c.at + interval '1 second')) x
"""
_EDGES = """
WITH s AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM runs_step WHERE run_id = %(run)s)
INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
SELECT e.workspace_id, c.id, c.first_step + p.n, c.first_step + k.n
  FROM copies c, runs_stepedge e JOIN s p ON p.id = e.parent_id JOIN s k ON k.id = e.child_id
 WHERE e.run_id = %(run)s
"""
_EVENTS = """
INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)
SELECT e.workspace_id, c.id, e.seq, e.type, e.step, c.at, e.data FROM copies c, runs_event e WHERE e.run_id = %(run)s
"""
_ATTEMPTS = """
WITH s AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM runs_step WHERE run_id = %(run)s)
INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome, started_at, ended_at)
SELECT md5('attempt' || (c.first_step + s.n))::uuid, a.workspace_id, c.id, c.first_step + s.n, a.number, a.worker,
       a.outcome, c.at, c.at
  FROM copies c, runs_attempt a JOIN s ON s.id = a.step_id
"""
TABLES = ("runs_run", "runs_step", "runs_stepedge", "runs_event", "runs_attempt")


def copy(db: "psycopg.Connection[Any]", run: Any, runs: int, *, days: float = 30) -> None:
    """Make ``runs`` copies of a finished run whose steps were each tried once, ended about ``days`` ago.

    They are true to the invariants that verify checks.  Statistics are as they would be: gathered afterwards.
    """
    steps = db.execute("SELECT count(*) FROM runs_step WHERE run_id = %s", [run]).fetchone()[0]  # type: ignore[index]
    for low in range(1, runs + 1, BATCH):
        high = min(runs, low + BATCH - 1)
        first = db.execute("SELECT max(id) + 1 FROM runs_step").fetchone()[0]  # type: ignore[index]
        values = {"run": run, "runs": runs, "low": low, "high": high, "days": days, "steps": steps, "first": first}
        with db.transaction(), psycopg.ClientCursor(db) as cursor:
            for statement in (_COPIES, _RUNS, _STEPS, _EDGES, _EVENTS, _ATTEMPTS):
                cursor.execute(statement, values)
            cursor.execute("DROP TABLE copies")
            cursor.execute("SELECT setval(pg_get_serial_sequence('runs_step', 'id'), max(id)) FROM runs_step")
    for table in TABLES:
        db.execute(f"VACUUM ANALYZE {table}")
