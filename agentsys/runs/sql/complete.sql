-- name: complete
-- running -> succeeded for one step each of some runs: its events, its attempt, the joins of its children, the
-- run's counters and end, and the claim of one child in the same lane; one statement, one commit for all of them.
-- The run rows are locked first, in the order given, which is that of their ids.  This statement's snapshot may
-- be older than those locks, so everything is decided from columns of the rows it updates; plan_version guards
-- the edges (whoever adds steps raises it), "last" guards the result that the caller computed.  A run that is
-- missing from the answer: its guards failed, see completion_state.
-- LIMIT tells the planner how few there are; LATERAL and the arrays keep it to the indexes, also where a plan made
-- for small tables meets large ones.
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(given)s::jsonb) AS g(
           run_id uuid, step_id bigint, token uuid, plan_version int, last boolean, next_token uuid, output jsonb,
           usage jsonb, result jsonb, error jsonb, ended text, end_reason text, model_calls int, input_tokens bigint,
           output_tokens bigint, cost_usd numeric)
     LIMIT 16
), run AS MATERIALIZED (
    SELECT g.*, r.workspace_id, r.status, r.priority
      FROM given g CROSS JOIN LATERAL (
           SELECT workspace_id, status, priority FROM runs_run
            WHERE id = g.run_id AND plan_version = g.plan_version AND (open_steps = 1) = g.last
              FOR NO KEY UPDATE) r
), done AS (
    UPDATE runs_step s
       SET status = 'succeeded', reason = '', output = run.output, usage = run.usage, error = NULL,
           lease_expires_at = NULL, finished_at = clock_timestamp()
      FROM run
     WHERE s.id = run.step_id AND s.id = ANY (ARRAY(SELECT step_id FROM run))
       AND s.run_id = run.run_id AND s.claim_token = run.token AND s.status = 'running'
    RETURNING s.id, s.run_id, s.workspace_id, s.key, s.kind, s.attempt, s.claim_token, s.lease_owner, s.claimed_at
), pick AS MATERIALIZED (
    SELECT DISTINCT ON (run.run_id) k.id, run.next_token
      FROM run JOIN runs_stepedge e ON e.parent_id = run.step_id JOIN runs_step k ON k.id = e.child_id
     WHERE run.next_token IS NOT NULL AND run.status = 'running' AND k.lane = %(lane)s
     ORDER BY run.run_id, k.deps_left, k.id
), child AS (
    UPDATE runs_step c
       SET deps_left = c.deps_left - 1,
           status = CASE WHEN c.deps_left > 1 THEN 'blocked' WHEN pick.id IS NOT NULL THEN 'running'
                         WHEN run.status = 'paused' THEN 'queued' ELSE 'ready' END,
           fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - run.priority * 30000000,
           ready_at = CASE WHEN c.deps_left = 1 THEN clock_timestamp() END,
           attempt = CASE WHEN c.deps_left = 1 AND pick.id IS NOT NULL THEN 1 ELSE 0 END,
           claim_token = CASE WHEN c.deps_left = 1 THEN pick.next_token END,
           lease_owner = CASE WHEN c.deps_left = 1 AND pick.id IS NOT NULL THEN %(owner)s ELSE '' END,
           lease_expires_at = CASE WHEN c.deps_left = 1 AND pick.id IS NOT NULL
                                   THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
           claimed_at = CASE WHEN c.deps_left = 1 AND pick.id IS NOT NULL THEN clock_timestamp() END,
           started_at = CASE WHEN c.deps_left = 1 AND pick.id IS NOT NULL THEN clock_timestamp() END
      FROM done JOIN run ON run.run_id = done.run_id JOIN runs_stepedge e
        ON e.parent_id = done.id AND e.parent_id = ANY (ARRAY(SELECT step_id FROM run))
      LEFT JOIN pick ON pick.id = e.child_id
     WHERE c.id = e.child_id AND c.status = 'blocked'
    RETURNING c.status, c.id, c.workspace_id, c.run_id, c.key, c.kind, c.tool, c.objective, c.arguments, c.depends_on,
              c.lane, c.effect, c.timeout_s, c.max_attempts, c.reason, c.attempt, c.failures, c.claim_token, c.lease_owner, c.available_at, c.approval
), n AS (
    SELECT run_id,
           count(*) FILTER (WHERE status = 'running') AS claimed,
           count(*) FILTER (WHERE status <> 'blocked') AS activated,
           array_agg(lane::text) FILTER (WHERE status = 'ready') AS ready_lanes
      FROM child GROUP BY run_id
), moved AS (
    UPDATE runs_run r
       SET event_seq = r.event_seq + 1 + d.claimed
               + (d.last OR (r.status = 'running' AND r.active_steps + d.activated = 1))::int,
           open_steps = r.open_steps - 1,
           active_steps = r.active_steps - 1 + d.activated,
           steps_done = r.steps_done + 1,
           tool_calls = r.tool_calls + (d.kind = 'tool')::int,
           model_calls = r.model_calls + d.model_calls,
           input_tokens = r.input_tokens + d.input_tokens,
           output_tokens = r.output_tokens + d.output_tokens,
           cost_usd = r.cost_usd + d.cost_usd,
           status = CASE
               WHEN d.last AND r.status <> 'cancelling' THEN d.ended
               WHEN d.last THEN CASE WHEN r.error IS NULL THEN 'cancelled' ELSE 'failed' END
               WHEN r.status = 'running' AND r.active_steps + d.activated = 1 THEN 'waiting' ELSE r.status END,
           reason = CASE
               WHEN d.last AND r.status <> 'cancelling' THEN d.end_reason
               WHEN d.last THEN r.stop_reason
               WHEN r.status = 'running' AND r.active_steps + d.activated = 1 THEN r.parked_reason ELSE r.reason END,
           error = CASE WHEN r.status <> 'cancelling' THEN d.error ELSE r.error END,
           result = CASE WHEN r.status <> 'cancelling' THEN d.result END,
           finished_at = CASE WHEN d.last THEN clock_timestamp() END
      FROM (SELECT run.*, done.key, done.kind, done.attempt, coalesce(n.claimed, 0) AS claimed,
                   coalesce(n.activated, 0) AS activated, n.ready_lanes
              FROM done JOIN run ON run.run_id = done.run_id LEFT JOIN n ON n.run_id = done.run_id) d
     WHERE r.id = d.run_id
    RETURNING r.id, r.workspace_id, r.event_seq, r.open_steps, r.plan_version, r.status, r.reason,
              d.key, d.attempt, d.claimed, d.ready_lanes, CASE WHEN d.last THEN r.parent_step END AS parent_step, (d.last OR r.status = 'waiting')::int AS turned
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, at, seq, type, step, data)
    SELECT m.workspace_id, m.id, clock_timestamp(), e.*
      FROM moved m LEFT JOIN child ON child.run_id = m.id AND child.status = 'running'
     CROSS JOIN LATERAL (VALUES
           (m.event_seq - m.turned - m.claimed, 'step.succeeded', m.key, jsonb_build_object('attempt', m.attempt)),
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
SELECT child.*, moved.id AS moved_id, moved.open_steps AS run_open_steps, moved.plan_version AS run_plan_version,
       moved.ready_lanes, moved.parent_step
  FROM moved LEFT JOIN child ON child.run_id = moved.id AND child.status = 'running';

-- name: completion_state
-- Why complete found nothing: already done, fenced, or the run has changed since it was read.
SELECT s.status, s.claim_token = %(token)s::uuid AS ours, r.open_steps, r.plan_version
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.id = %(step_id)s;

-- name: endings
-- What the results of some runs are made of: beside the run, the outputs of the steps that its answer template
-- names, or of those nobody depends on.
SELECT r.id, r.open_steps, r.plan_version, r.answer, r.output_schema, r.input, r.goal, r.status, o.outputs
  FROM runs_run r CROSS JOIN LATERAL (
       SELECT coalesce(jsonb_object_agg(s.key, s.output), '{}') AS outputs FROM runs_step s
        WHERE s.run_id = r.id AND s.kind <> 'plan'
          AND CASE WHEN r.answer IS NULL THEN NOT EXISTS (SELECT 1 FROM runs_stepedge e WHERE e.parent_id = s.id)
                   ELSE r.answer -> 'keys' ? s.key END) o
 WHERE r.id = ANY(%(run_ids)s::uuid[]);

-- name: outputs
-- Outputs of the named steps of a run.
SELECT key, output FROM runs_step WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[]);
