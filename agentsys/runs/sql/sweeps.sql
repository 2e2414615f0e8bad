-- name: lock_job
-- One sweeper at a time does a job; the lock ends with the transaction, so pgbouncer may pool it.
SELECT pg_try_advisory_xact_lock(hashtext('agentsys.' || %(job)s)) AS mine;

-- name: due_sleepers
-- sleeping -> queued once their time has come; "admit" comes next.  No counter of the run changes, so no run is
-- locked; and nothing is waited for, so the index may give the order.
WITH due AS MATERIALIZED (
    SELECT id FROM runs_step WHERE status = 'sleeping' AND available_at <= clock_timestamp()
     ORDER BY available_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE runs_step s
   SET status = 'queued', fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - r.priority * 30000000
  FROM due, runs_run r WHERE s.id = due.id AND r.id = s.run_id
RETURNING s.id, s.workspace_id, s.lane;

-- name: hold_woken
-- Those of the steps just woken whose run is paused, out of time or has a cap on its parallel steps are held; in the
-- same transaction, so that nobody admits them.  By a snapshot of its own: a pause that is not in it still waits for
-- these very steps.
UPDATE runs_step s SET held = CASE WHEN r.status = 'paused' OR r.held_at IS NOT NULL THEN 'paused' ELSE 'parallel' END
  FROM runs_run r
 WHERE s.id = ANY(%(ids)s::bigint[]) AND s.status = 'queued' AND r.id = s.run_id
   AND (r.status = 'paused' OR r.held_at IS NOT NULL OR r.limits ? 'parallel')
RETURNING s.id, s.run_id;

-- name: runs_to_fit
-- Runs in which a step waits for a place among the run's parallel steps, some after another: the index is read from one
-- run to the next, not through a backlog.
WITH RECURSIVE waits AS (
    (SELECT run_id FROM runs_step WHERE status = 'queued' AND held = 'parallel' AND run_id > %(after)s::uuid
      ORDER BY run_id LIMIT 1)
    UNION ALL
    SELECT next.run_id FROM waits CROSS JOIN LATERAL (
           SELECT run_id FROM runs_step WHERE status = 'queued' AND held = 'parallel' AND run_id > waits.run_id
            ORDER BY run_id LIMIT 1) next
)
SELECT run_id FROM waits LIMIT %(limit)s;

-- name: expired_leases
-- Running steps whose lease ran out.  After PostgreSQL was away every lease looks expired: nobody is judged
-- before a whole lease has passed since it came back.
SELECT id, run_id, claim_token FROM runs_step
 WHERE lease_expires_at < clock_timestamp()
   AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)
 ORDER BY lease_expires_at LIMIT %(limit)s;

-- name: lease_owners
-- Who holds leases.
SELECT DISTINCT lease_owner FROM runs_step WHERE lease_expires_at IS NOT NULL;

-- name: leases_of
SELECT id, run_id, claim_token FROM runs_step WHERE lease_expires_at IS NOT NULL AND lease_owner = %(owner)s;

-- name: past_deadline
SELECT id FROM runs_run WHERE finished_at IS NULL AND deadline_at < clock_timestamp() AND status <> 'cancelling'
 ORDER BY deadline_at LIMIT %(limit)s;

-- name: due_lanes
-- Lanes with a step that could have been claimed a second ago.  Each lane's index is read up to the first such
-- step: DISTINCT over all that is ready would read a whole backlog, every second and on every node.
SELECT l.lane FROM unnest(%(lanes)s::text[]) AS l(lane)
 CROSS JOIN LATERAL (
    SELECT 1 FROM runs_step s
     WHERE s.status = 'ready' AND s.lane = l.lane
       AND s.ready_at < clock_timestamp() - make_interval(secs => %(older_than_s)s)
     ORDER BY s.fair_key LIMIT 1) AS first;

-- name: stuck_runs
-- Live runs that nothing moves: no active step, no counterpart, not just made; or one that is held though the run is not.
-- An alarm, and repaired.  A run that waits needs a step that does; a paused one waits for a person.
SELECT r.id FROM runs_run r
 WHERE r.finished_at IS NULL AND r.created_at < clock_timestamp() - interval '5 seconds'
   AND (r.status IN ('queued', 'running', 'cancelling') OR (r.status = 'waiting' AND NOT EXISTS (
           SELECT 1 FROM runs_step s WHERE s.run_id = r.id AND s.status = 'waiting')))
   AND NOT EXISTS (SELECT 1 FROM runs_step s
                    WHERE s.run_id = r.id AND s.status IN ('queued', 'ready', 'running', 'sleeping'))
UNION ALL
(SELECT DISTINCT r.id FROM runs_step s JOIN runs_run r ON r.id = s.run_id
  WHERE s.status = 'queued' AND s.held = 'paused' AND r.status IN ('queued', 'running', 'waiting') AND r.held_at IS NULL)
 LIMIT %(limit)s;

-- name: recount
SELECT count(*) FILTER (WHERE status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open_steps,
       count(*) FILTER (WHERE status IN ('queued', 'ready', 'running', 'sleeping')) AS active_steps,
       count(*) FILTER (WHERE status = 'waiting') AS waiting_steps
  FROM runs_step WHERE run_id = %(run_id)s;
