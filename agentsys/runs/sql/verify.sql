-- name: I2
-- one result a step, and at most one attempt of an unsafe step ended well
SELECT step_id::text AS what FROM runs_attempt WHERE outcome = 'succeeded' GROUP BY step_id HAVING count(*) > 1
UNION ALL
SELECT s.id::text FROM runs_step s WHERE s.status = 'succeeded' AND s.attempt > 0
   AND NOT EXISTS (SELECT 1 FROM runs_attempt a WHERE a.id = s.claim_token) AND s.reason = ''
   AND NOT EXISTS (SELECT 1 FROM runs_event e WHERE e.run_id = s.run_id AND e.step = s.key AND e.type = 'step.resolved');

-- name: I3
-- events of a run are 1..n
SELECT e.run_id::text AS what FROM runs_event e JOIN runs_run r ON r.id = e.run_id
 GROUP BY e.run_id, r.event_seq
HAVING count(*) <> r.event_seq OR min(e.seq) <> 1 OR max(e.seq) <> r.event_seq
UNION ALL
SELECT r.id::text FROM runs_run r WHERE NOT EXISTS (SELECT 1 FROM runs_event e WHERE e.run_id = r.id);

-- name: I4
-- deps_left of a blocked step is the number of its open parents
SELECT c.id::text AS what FROM runs_step c
 WHERE c.status = 'blocked' AND c.deps_left <> (
       SELECT count(*) FROM runs_stepedge e JOIN runs_step p ON p.id = e.parent_id
        WHERE e.run_id = c.run_id AND e.child_id = c.id AND p.status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled'));

-- name: I5
-- a lease belongs to a running step and a running step has one
SELECT id::text AS what FROM runs_step
 WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)
    OR (status = 'running' AND (claim_token IS NULL OR lease_owner = ''));

-- name: I8
-- a finished run has no open step, and its counters say so; a live one's counters are true
SELECT r.id::text AS what FROM runs_run r
 WHERE r.finished_at IS NOT NULL AND (r.open_steps <> 0 OR EXISTS (
       SELECT 1 FROM runs_step s WHERE s.run_id = r.id
          AND s.status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')))
UNION ALL
SELECT r.id::text FROM runs_run r
  JOIN LATERAL (SELECT count(*) FILTER (WHERE status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open,
                       count(*) FILTER (WHERE status IN ('queued', 'ready', 'running', 'sleeping')) AS active
                  FROM runs_step s WHERE s.run_id = r.id) n ON true
 WHERE r.finished_at IS NULL AND (n.open <> r.open_steps OR n.active <> r.active_steps);

-- name: I9
-- every live run has a step that moves, a time, or a named counterpart
SELECT r.id::text AS what FROM runs_run r
 WHERE r.finished_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM runs_step s WHERE s.run_id = r.id AND (
           s.status IN ('queued', 'ready', 'running') OR (s.status = 'sleeping' AND s.available_at IS NOT NULL)
           OR (s.status = 'waiting' AND s.reason <> '')));

-- name: I11
-- tries and crashes stay within their bounds
SELECT id::text AS what FROM runs_step WHERE failures > max_attempts OR crashes > 3;

-- name: I13
-- no step started after its run's cancel
SELECT DISTINCT s.run_id::text AS what FROM runs_event c JOIN runs_event s ON s.run_id = c.run_id AND s.seq > c.seq
 WHERE c.type = 'run.cancelling' AND s.type = 'step.started';
