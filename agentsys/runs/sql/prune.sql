-- What history loses, in batches.  Each statement walks a table by its key from where the last one stopped, looks at
-- so many rows and takes what is due of them; it waits for nobody (what somebody has locked is left for the next time)
-- and locks nothing that a worker needs: only runs that have ended.  Run ids begin with their time, so "before" keeps
-- the walk to the old end of the table; two days of it are for clocks that were wrong.  Without "really" it only
-- counts.  "days" are the installation's, of which a workspace may have its own; 0 is for ever.

-- name: prune_runs
-- Runs that ended so long ago, with all that belongs to them (by cascade); not while a run that was made from them is
-- there, nor a child before its parent has ended as long ago.  What stays of one is that it was there.
WITH looked AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.finished_at, r.event_seq, r.parent_run_id, r.parent_step
      FROM runs_run r
     WHERE r.id > %(after)s::uuid AND r.id < runs_id_at(
           statement_timestamp() + interval '2 days' - make_interval(secs => 86400 * %(least_days)s::float8))
     ORDER BY r.id LIMIT %(look)s
), policy AS MATERIALIZED (
    SELECT l.*, make_interval(secs => 86400 * nullif(coalesce(%(older_than)s::float8, t.runs_days, %(days)s), 0)) AS keep
      FROM looked l LEFT JOIN runs_retention t ON t.workspace_id = l.workspace_id
     WHERE NOT (coalesce(t.paused, false) AND %(heed_pauses)s)
       AND l.workspace_id = coalesce(%(workspace_id)s::uuid, l.workspace_id)
), candidate AS MATERIALIZED (
    SELECT p.*, sum(p.event_seq) OVER (ORDER BY p.id) - p.event_seq AS events_before
      FROM policy p LEFT JOIN runs_run parent ON parent.id = p.parent_run_id AND p.parent_step IS NOT NULL
     WHERE p.finished_at < clock_timestamp() - p.keep
       AND (parent.id IS NULL OR parent.finished_at < clock_timestamp() - p.keep)
       AND NOT EXISTS (SELECT FROM runs_run c WHERE c.parent_run_id = p.id)
     ORDER BY p.id LIMIT %(batch)s
), due AS MATERIALIZED (
    SELECT c.id, c.workspace_id, c.finished_at
      FROM candidate c CROSS JOIN LATERAL (SELECT id FROM runs_run WHERE id = c.id FOR UPDATE SKIP LOCKED) r
     WHERE c.events_before < %(most_rows)s
), gone AS (
    DELETE FROM runs_run r WHERE %(really)s AND r.id = ANY (ARRAY(SELECT id FROM due)) RETURNING r.id
), said AS (
    INSERT INTO runs_pruned (run_id, workspace_id, finished_at, gone_at)
    SELECT due.id, due.workspace_id, due.finished_at, clock_timestamp() FROM due JOIN gone ON gone.id = due.id
    ON CONFLICT (run_id) DO UPDATE SET gone_at = EXCLUDED.gone_at
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s OR max(events_before) >= %(most_rows)s FROM candidate) AS full,
       (SELECT id FROM due ORDER BY id DESC LIMIT 1) AS last_taken, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_looked;

-- name: prune_history
-- Events, attempts and calls of models of runs that ended so long ago, where these leave before their runs.
WITH looked AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.finished_at, r.event_seq
      FROM runs_run r
     WHERE r.id > %(after)s::uuid AND r.id < runs_id_at(
           statement_timestamp() + interval '2 days' - make_interval(secs => 86400 * %(least_days)s::float8))
     ORDER BY r.id LIMIT %(look)s
), candidate AS MATERIALIZED (
    SELECT l.*, sum(l.event_seq) OVER (ORDER BY l.id) - l.event_seq AS events_before
      FROM looked l LEFT JOIN runs_retention t ON t.workspace_id = l.workspace_id
     WHERE l.finished_at < clock_timestamp() - make_interval(secs => 86400 * nullif(coalesce(t.history_days, %(days)s), 0))
       AND NOT (coalesce(t.paused, false) AND %(heed_pauses)s)
       AND l.workspace_id = coalesce(%(workspace_id)s::uuid, l.workspace_id)
       AND NOT EXISTS (SELECT FROM runs_pruned p WHERE p.run_id = l.id)
     ORDER BY l.id LIMIT %(batch)s
), due AS MATERIALIZED (
    SELECT c.id, c.workspace_id, c.finished_at
      FROM candidate c CROSS JOIN LATERAL (SELECT id FROM runs_run WHERE id = c.id FOR UPDATE SKIP LOCKED) r
     WHERE c.events_before < %(most_rows)s
), event AS (
    DELETE FROM runs_event WHERE %(really)s AND run_id = ANY (ARRAY(SELECT id FROM due))
), attempt AS (
    DELETE FROM runs_attempt WHERE %(really)s AND run_id = ANY (ARRAY(SELECT id FROM due))
), asked AS (
    DELETE FROM runs_modelcall WHERE %(really)s AND run_id = ANY (ARRAY(SELECT id FROM due))
), said AS (
    INSERT INTO runs_pruned (run_id, workspace_id, finished_at, history_at)
    SELECT id, workspace_id, finished_at, clock_timestamp() FROM due WHERE %(really)s
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s OR max(events_before) >= %(most_rows)s FROM candidate) AS full,
       (SELECT id FROM due ORDER BY id DESC LIMIT 1) AS last_taken, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_looked;

-- name: prune_keys
-- Idempotency keys of runs that ended so long ago: the same key may then make another run.
WITH looked AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.finished_at, r.idempotency_key
      FROM runs_run r
     WHERE r.id > %(after)s::uuid AND r.id < runs_id_at(
           statement_timestamp() + interval '2 days' - make_interval(secs => 86400 * %(least_days)s::float8))
     ORDER BY r.id LIMIT %(look)s
), candidate AS MATERIALIZED (
    SELECT l.id FROM looked l LEFT JOIN runs_retention t ON t.workspace_id = l.workspace_id
     WHERE l.idempotency_key IS NOT NULL
       AND l.finished_at < clock_timestamp() - make_interval(secs => 86400 * nullif(coalesce(t.keys_days, %(days)s), 0))
       AND NOT (coalesce(t.paused, false) AND %(heed_pauses)s)
       AND l.workspace_id = coalesce(%(workspace_id)s::uuid, l.workspace_id)
     ORDER BY l.id LIMIT %(batch)s
), due AS MATERIALIZED (
    SELECT c.id FROM candidate c CROSS JOIN LATERAL (SELECT id FROM runs_run WHERE id = c.id FOR UPDATE SKIP LOCKED) r
), forgotten AS (
    UPDATE runs_run r SET idempotency_key = NULL WHERE %(really)s AND r.id = ANY (ARRAY(SELECT id FROM due))
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s FROM candidate) AS full,
       (SELECT id FROM due ORDER BY id DESC LIMIT 1) AS last_taken, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_looked;

-- name: prune_requests
-- Idempotency keys of what was no run: by their age, as those of runs, and else as runs themselves.
WITH looked AS MATERIALIZED (
    SELECT id, workspace_id, at FROM accounts_requestkey WHERE id > %(after)s ORDER BY id LIMIT %(look)s
), due AS MATERIALIZED (
    SELECT l.id FROM looked l LEFT JOIN runs_retention t ON t.workspace_id = l.workspace_id
     WHERE l.at < clock_timestamp() - make_interval(secs => 86400 * coalesce(
           nullif(coalesce(t.keys_days, %(keys_days)s::float8), 0), nullif(coalesce(t.runs_days, %(runs_days)s::float8), 0)))
       AND NOT (coalesce(t.paused, false) AND %(heed_pauses)s)
       AND l.workspace_id = coalesce(%(workspace_id)s::uuid, l.workspace_id)
     ORDER BY l.id LIMIT %(batch)s
), gone AS (
    DELETE FROM accounts_requestkey WHERE %(really)s AND id = ANY (ARRAY(SELECT id FROM due))
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s FROM due) AS full,
       (SELECT max(id) FROM due) AS last_taken, (SELECT max(id) FROM looked) AS last_looked;

-- name: prune_payloads
-- Content that no run and no file uses, an hour after somebody last meant to.
WITH looked AS MATERIALIZED (
    SELECT p.id, p.workspace_id, p.size_bytes, p.touched_at FROM runs_payload p WHERE p.id > %(after)s ORDER BY p.id LIMIT %(look)s
), candidate AS MATERIALIZED (
    SELECT l.id, sum(l.size_bytes) OVER (ORDER BY l.id) - l.size_bytes AS bytes_before
      FROM looked l
     WHERE l.touched_at < clock_timestamp() - interval '1 hour'
       AND l.workspace_id = coalesce(%(workspace_id)s::uuid, l.workspace_id)
       AND NOT EXISTS (SELECT FROM runs_payloaduse u WHERE u.payload_id = l.id)
       AND NOT EXISTS (SELECT FROM runs_runfile f WHERE f.payload_id = l.id)
       AND NOT EXISTS (SELECT FROM runs_runfile f WHERE f.before_id = l.id)
     ORDER BY l.id LIMIT %(batch)s
), due AS MATERIALIZED (
    SELECT c.id FROM candidate c CROSS JOIN LATERAL (
           SELECT id FROM runs_payload
            WHERE id = c.id AND touched_at < clock_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED) p
     WHERE c.bytes_before < %(most_bytes)s
), gone AS (
    DELETE FROM runs_payload WHERE %(really)s AND id = ANY (ARRAY(SELECT id FROM due))
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s OR max(bytes_before) >= %(most_bytes)s FROM candidate) AS full,
       (SELECT max(id) FROM due) AS last_taken, (SELECT max(id) FROM looked) AS last_looked;

-- name: prune_traces
-- That a run was there, 400 days after it has gone.
WITH looked AS MATERIALIZED (
    SELECT run_id AS id, gone_at FROM runs_pruned WHERE run_id > %(after)s::uuid ORDER BY run_id LIMIT %(look)s
), due AS MATERIALIZED (
    SELECT id FROM looked WHERE gone_at < clock_timestamp() - interval '400 days' ORDER BY id LIMIT %(batch)s
), gone AS (
    DELETE FROM runs_pruned WHERE %(really)s AND run_id = ANY (ARRAY(SELECT id FROM due))
)
SELECT (SELECT count(*) FROM due) AS taken, (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) = %(batch)s FROM due) AS full,
       (SELECT id FROM due ORDER BY id DESC LIMIT 1) AS last_taken, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_looked;

-- name: least_kept
-- The shortest time that any workspace keeps something, in days; null: all is kept for ever.
SELECT least(nullif(%(runs_days)s::float8, 0), min(nullif(runs_days, 0))) AS runs_days,
       least(nullif(%(history_days)s::float8, 0), min(nullif(history_days, 0))) AS history_days,
       least(nullif(%(keys_days)s::float8, 0), min(nullif(keys_days, 0))) AS keys_days,
       coalesce(bool_or(paused) FILTER (WHERE workspace_id IS NULL), false) AS paused
  FROM runs_retention;
