-- name: claim
-- ready -> running for up to so many steps.  Locks steps and their runs together and waits for none,
-- so it cannot deadlock with the order run -> steps.  MATERIALIZED keeps the planner from running LIMIT + SKIP
-- LOCKED twice; one lane by equality lets the index give the order.  The run first: a busy one then costs its steps
-- no lock.  A look without locks gives the order, and what is locked for each of its rows is found by its key: a plain
-- join would be planned as a read of all runs where statistics know of few, and a sort after it would lock them all.
-- A step that was there when a worker died is claimed alone, and by who holds no other claim (alone): else its next
-- death would count for others.
-- The updates name the status as it was locked, and the keys once more: by 'ready' the planner would join all that is
-- ready, as long as it believes that little is.  The events and the run's first move go along.
WITH c AS MATERIALIZED (
    SELECT s.*
      FROM (SELECT id, run_id, status, fair_key FROM runs_step
             WHERE status = 'ready' AND lane = %(lane)s ORDER BY fair_key) look
     CROSS JOIN LATERAL (
           SELECT id, status FROM runs_run WHERE id = look.run_id FOR NO KEY UPDATE SKIP LOCKED) r
     CROSS JOIN LATERAL (
           SELECT id, status, fair_key, crashes, r.id AS run_id, r.status AS run_status FROM runs_step
            WHERE id = look.id AND status = look.status FOR NO KEY UPDATE SKIP LOCKED) s
     ORDER BY look.fair_key
     LIMIT %(limit)s
), turn AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY fair_key, id) AS n,
           sum(crashes) OVER (ORDER BY fair_key, id) AS crashes_so_far
      FROM c
), step AS (
    UPDATE runs_step s
       SET status = 'running', attempt = s.attempt + 1, claim_token = (%(tokens)s::uuid[])[turn.n],
           lease_owner = %(owner)s, lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s),
           claimed_at = clock_timestamp(), started_at = coalesce(s.started_at, clock_timestamp())
      FROM turn
     WHERE s.id = turn.id AND s.id = ANY (ARRAY(SELECT id FROM turn)) AND s.status = turn.status
       AND ((turn.n = 1 AND %(alone)s) OR turn.crashes_so_far = 0)
    RETURNING s.*
), run AS (
    UPDATE runs_run r
       SET event_seq = r.event_seq + t.steps + CASE WHEN t.run_status = 'queued' THEN 1 ELSE 0 END,
           status = CASE WHEN t.run_status = 'queued' THEN 'running' ELSE r.status END,
           reason = CASE WHEN t.run_status = 'queued' THEN '' ELSE r.reason END,
           started_at = coalesce(r.started_at, clock_timestamp())
      FROM (SELECT turn.run_id, turn.run_status, count(*) AS steps
              FROM turn JOIN step ON step.id = turn.id GROUP BY turn.run_id, turn.run_status) t
     WHERE r.id = t.run_id AND r.id = ANY (ARRAY(SELECT run_id FROM turn))
    RETURNING r.id, r.workspace_id, r.event_seq, r.open_steps, r.plan_version, t.run_status, t.steps
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)
    SELECT workspace_id, id, event_seq - steps, 'run.running', '', clock_timestamp(), '{}'::jsonb
      FROM run WHERE run_status = 'queued'
    UNION ALL
    SELECT step.workspace_id, step.run_id,
           run.event_seq - run.steps + row_number() OVER (PARTITION BY run.id ORDER BY step.fair_key, step.id),
           'step.started', step.key, clock_timestamp(),
           jsonb_build_object('attempt', step.attempt, 'worker', step.lease_owner)
      FROM step JOIN run ON run.id = step.run_id
)
SELECT step.*, run.open_steps AS run_open_steps, run.plan_version AS run_plan_version
  FROM step JOIN run ON run.id = step.run_id ORDER BY step.fair_key, step.id;

-- name: is_ready
-- Was nothing found because there is nothing, or because the runs were busy?
SELECT 1 AS found FROM runs_step WHERE status = 'ready' AND lane = %(lane)s LIMIT 1;

-- name: claimed_by_tokens
-- Did claims whose answer was lost happen?
SELECT s.*, r.open_steps AS run_open_steps, r.plan_version AS run_plan_version
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.lease_expires_at IS NOT NULL AND s.claim_token = ANY(%(tokens)s::uuid[]);

-- name: heartbeat
-- running stays running: the lease of each claim this process still holds.  A token that does not come back
-- has been fenced.  A row that somebody has locked is left for the next beat: waiting for it would cost all
-- others their leases.
WITH mine AS (
    SELECT s.id FROM runs_step s
     WHERE s.id = ANY(%(ids)s::bigint[]) AND s.claim_token = ANY(%(tokens)s::uuid[]) AND s.status = 'running'
     ORDER BY s.id
       FOR NO KEY UPDATE SKIP LOCKED
), kept AS (
    UPDATE runs_step s
       SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
      FROM mine
     WHERE s.id = mine.id
    RETURNING s.id
)
SELECT s.claim_token, r.cancel_at IS NOT NULL AS cancelled, kept.id IS NOT NULL AS renewed
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id LEFT JOIN kept ON kept.id = s.id
 WHERE s.id = ANY(%(ids)s::bigint[]) AND s.claim_token = ANY(%(tokens)s::uuid[]) AND s.status = 'running';

-- name: open_gate
-- The commit before an unsafe call: at most once a claim, never on a lease that is nearly gone, never in a
-- run that stops.  No row: do not call.
UPDATE runs_step s
   SET effect_started_at = clock_timestamp()
  FROM runs_run r
 WHERE s.id = %(step_id)s AND s.claim_token = %(token)s::uuid AND s.status = 'running'
   AND s.effect_started_at IS NULL
   AND s.lease_expires_at > clock_timestamp() + make_interval(secs => %(margin_s)s)
   AND r.id = s.run_id AND r.cancel_at IS NULL
RETURNING s.id;

-- name: orphaned_claims
-- Claims of this very process that it does not know of: their answer was lost with a connection.
SELECT s.id, s.run_id, s.claim_token FROM runs_step s
 WHERE s.lease_expires_at IS NOT NULL AND s.lease_owner = %(owner)s AND s.claim_token <> ALL(%(tokens)s::uuid[])
   AND s.claimed_at < clock_timestamp() - interval '5 seconds';
