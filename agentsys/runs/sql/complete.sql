-- name: complete
-- running -> succeeded, its events, its attempt, the joins of its children, the run's counters and end, and
-- the claim of one child in the same lane: one statement, one commit.
-- The run row is locked first.  This statement's snapshot may be older than that lock, so everything is
-- decided from columns of the rows it updates; plan_version guards the edges (whoever adds steps raises it),
-- "last" guards the result that the caller computed.  No row: guards failed, see completion_state.
WITH run AS MATERIALIZED (
    SELECT id, workspace_id, status, priority, parked_reason FROM runs_run
     WHERE id = %(run_id)s AND plan_version = %(plan_version)s AND (open_steps = 1) = %(last)s
       FOR NO KEY UPDATE
), done AS (
    UPDATE runs_step s
       SET status = 'succeeded', reason = '', output = %(output)s::jsonb, usage = %(usage)s::jsonb, error = NULL,
           lease_expires_at = NULL, finished_at = clock_timestamp()
      FROM run
     WHERE s.id = %(step_id)s AND s.run_id = run.id AND s.claim_token = %(token)s::uuid AND s.status = 'running'
    RETURNING s.id, s.run_id, s.workspace_id, s.key, s.kind, s.attempt, s.claim_token, s.lease_owner, s.claimed_at
), pick AS MATERIALIZED (
    SELECT min(k.id) AS id
      FROM run JOIN runs_stepedge e ON e.parent_id = %(step_id)s JOIN runs_step k ON k.id = e.child_id
     WHERE %(claim_next)s AND run.status = 'running' AND k.lane = %(lane)s
), child AS (
    UPDATE runs_step c
       SET deps_left = c.deps_left - 1,
           status = CASE WHEN c.deps_left > 1 THEN 'blocked' WHEN c.id = pick.id THEN 'running'
                         WHEN run.status = 'paused' THEN 'queued' ELSE 'ready' END,
           fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - run.priority * 30000000,
           ready_at = CASE WHEN c.deps_left = 1 THEN clock_timestamp() END,
           attempt = CASE WHEN c.deps_left = 1 AND c.id = pick.id THEN 1 ELSE 0 END,
           claim_token = CASE WHEN c.deps_left = 1 AND c.id = pick.id THEN %(next_token)s::uuid END,
           lease_owner = CASE WHEN c.deps_left = 1 AND c.id = pick.id THEN %(owner)s ELSE '' END,
           lease_expires_at = CASE WHEN c.deps_left = 1 AND c.id = pick.id
                                   THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
           claimed_at = CASE WHEN c.deps_left = 1 AND c.id = pick.id THEN clock_timestamp() END,
           started_at = CASE WHEN c.deps_left = 1 AND c.id = pick.id THEN clock_timestamp() END
      FROM done JOIN runs_stepedge e ON e.parent_id = done.id CROSS JOIN pick CROSS JOIN run
     WHERE c.id = e.child_id AND c.status = 'blocked'
    RETURNING c.status, c.id, c.workspace_id, c.run_id, c.key, c.kind, c.tool, c.objective, c.arguments, c.depends_on,
              c.lane, c.effect, c.timeout_s, c.max_attempts, c.reason, c.attempt, c.failures, c.claim_token, c.lease_owner, c.available_at, c.approval
), n AS (
    SELECT count(*) FILTER (WHERE status = 'running') AS claimed,
           count(*) FILTER (WHERE status <> 'blocked') AS activated
      FROM child
), moved AS (
    UPDATE runs_run r
       SET event_seq = r.event_seq + 1 + n.claimed
               + (%(last)s OR (r.status = 'running' AND r.active_steps + n.activated = 1))::int,
           open_steps = r.open_steps - 1,
           active_steps = r.active_steps - 1 + n.activated,
           steps_done = r.steps_done + 1,
           tool_calls = r.tool_calls + (done.kind = 'tool')::int,
           model_calls = r.model_calls + %(model_calls)s,
           input_tokens = r.input_tokens + %(input_tokens)s,
           output_tokens = r.output_tokens + %(output_tokens)s,
           cost_usd = r.cost_usd + %(cost_usd)s,
           status = CASE
               WHEN %(last)s AND r.status <> 'cancelling' THEN %(end)s::text
               WHEN %(last)s THEN CASE WHEN r.error IS NULL THEN 'cancelled' ELSE 'failed' END
               WHEN r.status = 'running' AND r.active_steps + n.activated = 1 THEN 'waiting' ELSE r.status END,
           reason = CASE
               WHEN %(last)s AND r.status <> 'cancelling' THEN %(end_reason)s::text
               WHEN %(last)s THEN r.stop_reason
               WHEN r.status = 'running' AND r.active_steps + n.activated = 1 THEN r.parked_reason ELSE r.reason END,
           error = CASE WHEN r.status <> 'cancelling' THEN %(error)s::jsonb ELSE r.error END,
           result = CASE WHEN r.status <> 'cancelling' THEN %(result)s::jsonb END,
           finished_at = CASE WHEN %(last)s THEN clock_timestamp() END
      FROM done, n
     WHERE r.id = done.run_id
    RETURNING r.id, r.workspace_id, r.event_seq, r.open_steps, r.plan_version, r.status, r.reason, n.claimed, (%(last)s OR r.status = 'waiting')::int AS turned
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, at, seq, type, step, data)
    SELECT m.workspace_id, m.id, clock_timestamp(), e.*
      FROM moved m CROSS JOIN done LEFT JOIN child ON child.status = 'running'
     CROSS JOIN LATERAL (VALUES
           (m.event_seq - m.turned - m.claimed, 'step.succeeded', done.key, jsonb_build_object('attempt', done.attempt)),
           (m.event_seq - m.turned, 'step.started', child.key,
            jsonb_build_object('attempt', child.attempt, 'worker', child.lease_owner)),
           (CASE WHEN m.turned = 1 THEN m.event_seq END, 'run.' || m.status, '', jsonb_build_object('reason', m.reason))
     ) AS e(seq, type, step, data)
     WHERE e.seq IS NOT NULL AND e.step IS NOT NULL
), attempt AS (
    INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome, started_at, ended_at)
    SELECT claim_token, workspace_id, run_id, id, attempt, lease_owner, 'succeeded', claimed_at, clock_timestamp()
      FROM done
    ON CONFLICT (id) DO NOTHING
)
SELECT child.*, moved.status AS run_status, moved.open_steps AS run_open_steps, moved.plan_version AS run_plan_version,
       (SELECT array_agg(lane::text) FROM child WHERE status = 'ready') AS ready_lanes
  FROM moved LEFT JOIN child ON child.status = 'running';

-- name: completion_state
-- Why complete found nothing: already done, fenced, or the run has changed since it was read.
SELECT s.status, s.claim_token = %(token)s::uuid AS ours, r.open_steps, r.plan_version
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.id = %(step_id)s;

-- name: ending_inputs
-- What a run's result is made of: the steps its template names, or those nobody depends on.
SELECT s.key, s.output FROM runs_step s
 WHERE s.run_id = %(run_id)s AND s.kind <> 'plan'
   AND CASE WHEN %(keys)s::text[] IS NULL
            THEN NOT EXISTS (SELECT 1 FROM runs_stepedge e WHERE e.parent_id = s.id)
            ELSE s.key = ANY(%(keys)s::text[]) END
 ORDER BY s.id;

-- name: outputs
-- Outputs of the named steps of a run.
SELECT key, output FROM runs_step WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[]);

-- name: ending_of
-- What a run's result depends on beside its steps.
SELECT r.id, r.open_steps, r.plan_version, r.answer, r.output_schema, r.input, r.goal, r.status FROM runs_run r WHERE r.id = %(run_id)s;
