-- name: open_steps
-- The steps of a run that have not ended, those that could move first, with what each of them waits for.
SELECT s.key, s.kind, s.tool, s.status, s.reason, s.held, s.lane, s.available_at, s.claimed_at, s.lease_owner, s.lease_expires_at, s.attempt,
       clock_timestamp() AS now,
       s.ready_at, s.error ->> 'code' AS error_code, s.error ->> 'message' AS error_message,
       s.error -> 'data' -> 'budgets' AS budgets, s.error -> 'data' -> 'credentials' AS credentials,
       to_timestamp((s.fair_key + %(priority)s * 30000000) / 1e6) AS queued_at,
       coalesce((SELECT max(at) FROM runs_event WHERE run_id = s.run_id AND step = s.key), s.created_at) AS told_at,
       a.id AS approval, a.expires_at, a.tainted, child.id AS child, child.status AS child_status, slot.lim, slot.used,
       CASE WHEN s.status = 'ready' THEN (
           SELECT count(*) FROM (SELECT FROM runs_step o WHERE o.status = 'ready' AND o.lane = s.lane
                                    AND o.fair_key < s.fair_key LIMIT 1000) ahead) END AS ahead,
       CASE WHEN s.status = 'blocked' THEN ARRAY(
           SELECT p.key::text FROM runs_step p WHERE p.run_id = s.run_id AND p.key = ANY (s.depends_on)
              AND p.status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled') ORDER BY p.id LIMIT 10) END AS waits_for
  FROM (SELECT * FROM runs_step
         WHERE run_id = %(run_id)s AND status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')
         ORDER BY status = 'blocked', id LIMIT %(limit)s) s
  LEFT JOIN runs_approval a ON a.step_id = s.id AND a.decision = '' AND s.status = 'waiting'
  LEFT JOIN runs_run child ON child.parent_step = s.id AND s.status = 'waiting'
  LEFT JOIN runs_laneslot slot ON slot.workspace_id = s.workspace_id AND slot.lane = s.lane
 ORDER BY s.status = 'blocked', s.id;

-- name: held_by
-- Since when a run is paused, and by whom.
SELECT at, data ->> 'by' AS by FROM runs_event
 WHERE run_id = %(run_id)s AND type = 'run.paused' ORDER BY seq DESC LIMIT 1;

-- name: time_up
-- A row where the run's own time is used up (a child may be held by its parent's).
SELECT true AS up FROM runs_run WHERE id = %(run_id)s AND time_up_at <= clock_timestamp();
