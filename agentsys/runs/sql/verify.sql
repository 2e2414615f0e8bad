-- name: I2
-- one result a step, but for what was recorded in another run; a call not to be repeated began at most once more than
-- a person or its check said that it had not happened (an attempt that its check ends well is no call: "done" counts, too)
SELECT step_id::text AS what FROM runs_attempt WHERE outcome = 'succeeded' GROUP BY step_id HAVING count(*) > 1
UNION ALL
SELECT run_id || ' ' || step FROM runs_event WHERE type = 'step.succeeded' GROUP BY run_id, step HAVING count(*) > 1
UNION ALL
SELECT s.id::text FROM runs_step s WHERE s.status = 'succeeded' AND s.reason <> 'recorded'
   AND NOT EXISTS (SELECT 1 FROM runs_attempt a WHERE a.id = s.claim_token AND a.outcome = 'succeeded')
   AND NOT EXISTS (SELECT 1 FROM runs_event e WHERE e.run_id = s.run_id AND e.step = s.key AND e.type = 'step.resolved')
   AND NOT EXISTS (SELECT 1 FROM runs_approval a WHERE a.step_id = s.id AND a.decision IN ('answer', 'deny'))
   AND NOT EXISTS (SELECT 1 FROM runs_run c WHERE c.parent_step = s.id AND c.status = 'succeeded')
   AND NOT EXISTS (SELECT 1 FROM runs_event e JOIN runs_pruned p ON p.run_id::text = e.data ->> 'child' AND p.gone_at IS NOT NULL
                    WHERE e.run_id = s.run_id AND e.step = s.key AND e.type = 'step.succeeded')
   AND NOT EXISTS (SELECT 1 FROM runs_pruned p WHERE p.run_id = s.run_id)
UNION ALL
SELECT s.id::text FROM runs_step s
  JOIN LATERAL (SELECT count(*) AS n FROM runs_attempt a
                 WHERE a.run_id = s.run_id AND a.step_id = s.id AND a.outcome IN ('succeeded', 'waiting', 'unknown')) starts ON true
  JOIN LATERAL (SELECT count(*) AS n FROM runs_event e WHERE e.run_id = s.run_id AND e.step = s.key
                   AND (e.type = 'step.verified' OR (e.type = 'step.resolved' AND e.data ->> 'outcome' = 'not_done'))) again ON true
 WHERE s.effect IN ('unsafe', 'verifiable') AND (starts.n > 1 + again.n OR (s.status = 'succeeded' AND s.effect_started_at IS NULL
       AND s.reason <> 'recorded' AND NOT EXISTS (SELECT 1 FROM runs_approval a WHERE a.step_id = s.id AND a.decision = 'deny')))
UNION ALL -- a call that needs an approval ran on the one for exactly its arguments, never before or without it
SELECT s.id::text FROM runs_step s JOIN runs_attempt t ON t.id = s.claim_token AND t.outcome = 'succeeded'
 WHERE s.approval AND s.effect <> 'recorded' AND NOT EXISTS (SELECT 1 FROM runs_approval a
        WHERE a.step_id = s.id AND a.decision = 'approve' AND (a.claim_token = s.claim_token
           OR (a.claim_token IS NOT NULL AND EXISTS (SELECT 1 FROM runs_event e WHERE e.run_id = s.run_id AND e.step = s.key
                  AND e.type = 'step.verified' AND e.data ->> 'outcome' = 'done'))))
UNION ALL -- and it was not begun, nor did it succeed, while somebody was still asked, or after a no
SELECT a.step_id::text FROM runs_approval a JOIN runs_step s ON s.id = a.step_id
 WHERE a.decision IN ('deny', 'expired', 'cancelled', '') AND s.effect_started_at > a.created_at;

-- name: I3
-- events of a run are 1..n
SELECT e.run_id::text AS what FROM runs_event e JOIN runs_run r ON r.id = e.run_id
 GROUP BY e.run_id, r.event_seq
HAVING count(*) <> r.event_seq OR min(e.seq) <> 1 OR max(e.seq) <> r.event_seq
UNION ALL
SELECT r.id::text FROM runs_run r WHERE NOT EXISTS (SELECT 1 FROM runs_event e WHERE e.run_id = r.id)
   AND NOT EXISTS (SELECT 1 FROM runs_pruned p WHERE p.run_id = r.id AND r.finished_at IS NOT NULL);

-- name: I4
-- deps_left is the number of open parents: above 0 while blocked, 0 for whatever has gone on
SELECT c.id::text AS what FROM runs_step c
  LEFT JOIN (SELECT e.child_id, count(*) AS n FROM runs_stepedge e JOIN runs_step p ON p.id = e.parent_id
              WHERE p.status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled') GROUP BY 1) open ON open.child_id = c.id
 WHERE c.status NOT IN ('skipped', 'cancelled') AND c.deps_left <> coalesce(open.n, 0);

-- name: I5
-- a lease belongs to a running step and a running step has one
SELECT id::text AS what FROM runs_step
 WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)
    OR (status = 'running' AND (claim_token IS NULL OR lease_owner = ''));

-- name: I7
-- budgets: within their limit; of tokens and cost, spent is what was settled and reserved what running claims hold, so
-- nothing once all has ended; of steps, spent is what is open or done in the run and in those below it, but
-- for what plans (history may take steps of runs that have ended); every limit has its budget
SELECT b.id::text AS what FROM runs_budget b WHERE b.spent + b.reserved > b.lim
UNION ALL
SELECT b.id::text FROM runs_budget b
  JOIN LATERAL (SELECT coalesce(sum(settled), 0) AS settled, coalesce(sum(amount), 0) AS amount
                  FROM runs_reservation v WHERE v.budget_id = b.id) v ON true
 WHERE b.kind <> 'steps' AND (b.spent <> b.folded + v.settled OR b.reserved <> v.amount)
UNION ALL
SELECT v.id::text FROM runs_reservation v LEFT JOIN runs_step s ON s.id = v.step_id
 WHERE v.settled_at IS NULL AND (s.id IS NULL OR s.status <> 'running' OR s.claim_token <> v.claim_token)
UNION ALL
SELECT b.id::text FROM runs_budget b JOIN runs_run r ON r.id = b.run_id JOIN LATERAL (
    WITH RECURSIVE tree AS (
        SELECT b.run_id AS id
        UNION ALL
        SELECT c.id FROM tree JOIN runs_run c ON c.parent_run_id = tree.id AND c.parent_step IS NOT NULL
    ) SELECT count(*) FILTER (WHERE s.kind <> 'plan' AND s.status NOT IN ('skipped', 'cancelled') AND s.reason <> 'recorded') AS steps,
             bool_or(s.kind = 'delegate' AND s.status = 'succeeded' AND NOT EXISTS (
                 SELECT 1 FROM runs_run c WHERE c.parent_step = s.id)) AS gone
        FROM tree JOIN runs_step s ON s.run_id = tree.id) n ON true
 WHERE b.kind = 'steps' AND (b.spent < n.steps OR (b.spent > n.steps AND r.finished_at IS NULL AND NOT coalesce(n.gone, false)))
UNION ALL
SELECT r.id::text FROM runs_run r CROSS JOIN LATERAL jsonb_each_text(r.limits) AS l(key, value)
 WHERE l.key IN ('steps', 'tokens', 'cost_usd') AND NOT EXISTS (
        SELECT 1 FROM runs_budget b WHERE b.run_id = r.id AND b.kind = CASE l.key WHEN 'cost_usd' THEN 'cost_micros' ELSE l.key END
           AND b.lim = floor(CASE l.key WHEN 'cost_usd' THEN 1000000 ELSE 1 END * l.value::numeric));
-- name: I6
-- a slot's count is what is ready and running of its workspace and lane; it is within the limit, or what was running when
-- the limit was lowered; and nothing of a run that is paused, stops or has ended holds one without running; and no run
-- has more steps under way than its cap, but for what was running when that was lowered (over_cap)
SELECT coalesce(l.workspace_id, n.workspace_id) || ' ' || coalesce(l.lane, n.lane) AS what
  FROM runs_laneslot l FULL JOIN (SELECT workspace_id, lane, count(*) AS used FROM runs_step
                                   WHERE status IN ('ready', 'running') GROUP BY workspace_id, lane) n
    ON n.workspace_id = l.workspace_id AND n.lane = l.lane
 WHERE coalesce(l.used, 0) <> coalesce(n.used, 0) OR l.used > l.lim + l.over
UNION ALL
SELECT s.id::text FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE (s.status = 'ready' AND r.status NOT IN ('queued', 'running')) OR (s.status = 'running' AND r.finished_at IS NOT NULL)
UNION ALL
SELECT r.id::text FROM runs_run r
  JOIN LATERAL (SELECT count(*) AS used, count(*) FILTER (WHERE s.status <> 'running') AS waiting FROM runs_step s
                 WHERE s.run_id = r.id AND (s.status IN ('ready', 'running') OR (s.status = 'queued' AND s.held = ''))) n ON true
 WHERE r.finished_at IS NULL AND n.used > (r.limits -> 'parallel')::int AND (n.waiting > 0 OR NOT r.over_cap);

-- name: I8
-- a finished run has no open step, and a run's counters are true
SELECT r.id::text AS what FROM runs_run r
  JOIN LATERAL (SELECT count(*) FILTER (WHERE status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open,
                       count(*) FILTER (WHERE status IN ('queued', 'ready', 'running', 'sleeping')) AS active,
                       count(*) FILTER (WHERE status IN ('succeeded', 'failed') AND reason <> 'recorded') AS done
                  FROM runs_step s WHERE s.run_id = r.id) n ON true
 WHERE n.open <> r.open_steps OR n.active <> r.active_steps OR n.done <> r.steps_done
    OR (r.finished_at IS NOT NULL AND n.open <> 0);

-- name: I9
-- every live run has a step that moves, a time, or a named counterpart; and its status says which;
-- a paused one offers nothing to a claim
SELECT r.id::text AS what FROM runs_run r
  JOIN LATERAL (SELECT count(*) FILTER (WHERE status IN ('queued', 'ready', 'running')
                                           OR (status = 'sleeping' AND available_at IS NOT NULL)) AS moves,
                       count(*) FILTER (WHERE status = 'ready') AS ready,
                       count(*) FILTER (WHERE status = 'waiting' AND reason <> '') AS waits
                  FROM runs_step s WHERE s.run_id = r.id) n ON true
 WHERE r.finished_at IS NULL
   AND CASE r.status WHEN 'paused' THEN n.moves + n.waits = 0 OR n.ready > 0
                     WHEN 'waiting' THEN r.reason = '' OR CASE WHEN r.held_at IS NULL THEN n.moves > 0 OR n.waits = 0
                                                               ELSE n.ready > 0 OR n.moves + n.waits = 0 END
                     ELSE n.moves = 0 END
UNION ALL -- nothing is held for a pause but in a run that is held
SELECT s.id::text FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.held = 'paused' AND r.status <> 'paused' AND r.held_at IS NULL
UNION ALL -- the counterpart of a step that waits for a person is its open question, which ends when it does
SELECT s.id::text FROM runs_step s
 WHERE s.status = 'waiting' AND s.reason IN ('approval', 'input')
   AND NOT EXISTS (SELECT 1 FROM runs_approval a WHERE a.step_id = s.id AND a.kind = s.reason AND a.decision = ''
                      AND a.expires_at IS NOT DISTINCT FROM s.available_at)
UNION ALL
SELECT a.step_id::text FROM runs_approval a JOIN runs_step s ON s.id = a.step_id
 WHERE a.decision = '' GROUP BY a.step_id, s.status, s.reason
HAVING count(*) > 1 OR s.status <> 'waiting' OR s.reason <> min(a.kind);

-- name: I11
-- tries and crashes stay within their bounds
SELECT id::text AS what FROM runs_step WHERE failures > max_attempts OR crashes > 3;

-- name: I13
-- no step started after its run's cancel
SELECT DISTINCT s.run_id::text AS what FROM runs_event c JOIN runs_event s ON s.run_id = c.run_id AND s.seq > c.seq
 WHERE c.type = 'run.cancelling' AND s.type = 'step.started';

-- name: I14
-- no step waits for a child that has ended or was never there, and no child goes on for a step that waits no more;
-- both for longer than ten seconds, for they end one after the other
SELECT s.id::text AS what FROM runs_step s LEFT JOIN runs_run c ON c.parent_step = s.id
 WHERE s.status = 'waiting' AND s.reason = 'child'
   AND (c.id IS NULL OR c.finished_at < clock_timestamp() - interval '10 seconds')
UNION ALL
SELECT c.id::text FROM runs_run c JOIN runs_step s ON s.id = c.parent_step
 WHERE c.finished_at IS NULL AND c.cancel_at IS NULL AND s.finished_at < clock_timestamp() - interval '10 seconds'
   AND c.created_at < clock_timestamp() - interval '10 seconds';

-- name: I15
-- a large value's content is there, in its workspace, and a use by its run keeps it
SELECT v.what FROM (
    SELECT s.id::text AS what, s.workspace_id, s.run_id, v.value FROM runs_step s, unnest(ARRAY[s.arguments, s.output]) AS v(value)
     WHERE s.kind <> 'plan'
    UNION ALL
    SELECT r.id::text, r.workspace_id, r.id, v.value FROM runs_run r, unnest(ARRAY[r.plan, r.input, r.result]) AS v(value)) v
 WHERE v.value ? '$payload' AND jsonb_typeof(v.value) = 'object' AND NOT EXISTS (
       SELECT 1 FROM runs_payload p JOIN runs_payloaduse u ON u.payload_id = p.id
        WHERE p.workspace_id = v.workspace_id AND p.sha256 = v.value ->> '$payload' AND u.run_id = v.run_id);
