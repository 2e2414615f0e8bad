-- name: complete
-- running -> succeeded for a few steps, of one run or of several: their events, their attempts, the joins of their
-- children, the runs' counters and ends, and the claim of children in the same lane; one statement, one commit.
-- Each step hands its slot to a child that is claimed along, or gives it back; of a chain the slot's row is not even
-- read.  Where there are more children in the lane, free slots are taken for them, unless others wait (hungry); what is
-- left over is queued for one, and "admit" comes next where the answer says that there may be some.
-- In a run with a cap on its parallel steps (limits.parallel) a step hands its place to a child in the same way; other
-- children wait for one (held), and "fit_runs" comes next where the answer says that there may be some (roomy).  Where
-- more is under way than a cap that was lowered (over_cap), no place is handed on.
-- The run rows are locked first, in the order given, which is that of their ids.  This statement's snapshot may
-- be older than those locks, so everything is decided from columns of the rows it updates; plan_version guards
-- the edges (whoever adds steps raises it).  A step that ends its run comes alone ("last" guards the result that
-- the caller computed); of any other run more steps are open than are given, whatever is fenced of these.  A step
-- that is missing from the answer: its guards failed, see completion_state.
-- A step completes in a run that waits only where the run's time is used up (held): nothing starts there.
-- LIMIT tells the planner how few there are; LATERAL and the arrays keep it to the indexes, also where a plan made
-- for small tables meets large ones.
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(given)s::jsonb) AS g(
           run_id uuid, step_id bigint, token uuid, plan_version int, of_run int, last boolean, output jsonb,
           usage jsonb, result jsonb, error jsonb, ended text, end_reason text, model_calls int, input_tokens bigint,
           output_tokens bigint, cost_usd numeric)
     LIMIT 16
), run AS MATERIALIZED (
    SELECT g.*, r.workspace_id, r.status, r.priority, r.parallel, r.over_cap
      FROM given g CROSS JOIN LATERAL (
           SELECT workspace_id, status, priority, (limits -> 'parallel')::int AS parallel, over_cap FROM runs_run
            WHERE id = g.run_id AND plan_version = g.plan_version AND (open_steps = 1) = g.last
              AND (g.last OR open_steps > g.of_run)
              FOR NO KEY UPDATE) r
), done AS (
    UPDATE runs_step s
       SET status = 'succeeded', reason = '', output = run.output, usage = run.usage, error = NULL,
           lease_expires_at = NULL, finished_at = clock_timestamp()
      FROM run
     WHERE s.id = run.step_id AND s.id = ANY (ARRAY(SELECT step_id FROM run))
       AND s.run_id = run.run_id AND s.claim_token = run.token AND s.status = 'running'
    RETURNING s.id, s.run_id, s.workspace_id, s.key, s.kind, s.attempt, s.claim_token, s.lease_owner, s.claimed_at,
              run.priority, run.status AS run_status, run.parallel
), own AS MATERIALIZED (
    SELECT workspace_id, count(*) AS n FROM done GROUP BY workspace_id
), ends AS MATERIALIZED (
    SELECT e.child_id, done.run_id, done.workspace_id, done.priority, done.run_status, done.parallel, count(*) AS parents
      FROM done JOIN runs_stepedge e ON e.parent_id = done.id AND e.parent_id = ANY (ARRAY(SELECT step_id FROM run))
     GROUP BY e.child_id, done.run_id, done.workspace_id, done.priority, done.run_status, done.parallel
), kin AS MATERIALIZED (
    SELECT k.id, ends.run_id, ends.workspace_id, ends.parallel, k.deps_left <= ends.parents AS is_free,
           row_number() OVER (PARTITION BY ends.run_id ORDER BY k.deps_left - ends.parents, k.id) AS of_run
      FROM ends JOIN runs_step k ON k.id = ends.child_id AND k.id = ANY (ARRAY(SELECT child_id FROM ends))
     WHERE k.lane = %(lane)s AND ends.run_status = 'running'
), slot AS MATERIALIZED (
    SELECT *, CASE WHEN hungry THEN 0 ELSE greatest(0, lim - used) END AS free FROM runs_laneslot
     WHERE lane = %(lane)s AND workspace_id = ANY (ARRAY(
           SELECT workspace_id FROM own WHERE EXISTS (SELECT FROM own JOIN kin USING (workspace_id) WHERE kin.is_free
                                                       GROUP BY workspace_id HAVING count(*) > max(own.n))))
     ORDER BY workspace_id FOR NO KEY UPDATE
), start AS MATERIALIZED (
    SELECT slot.*, 10000000 / weight AS spacing,
           least(greatest(next_key, level.key), level.key + used * (10000000 / weight)) AS key
      FROM slot CROSS JOIN (
           SELECT coalesce(min(tag), extract(epoch FROM clock_timestamp()) * 1e6) AS key
             FROM (SELECT s.fair_key + (SELECT priority FROM runs_run WHERE id = s.run_id) * 30000000 AS tag FROM runs_step s
                    WHERE s.status = 'ready' AND s.lane = %(lane)s ORDER BY s.fair_key LIMIT 8) first) level
), pick AS MATERIALIZED (
    SELECT kin.id, (start.key + kin.place * start.spacing)::bigint AS key,
           (%(tokens)s::uuid[])[row_number() OVER (ORDER BY kin.of_run, kin.id)] AS token
      FROM (SELECT *, row_number() OVER (PARTITION BY workspace_id ORDER BY of_run, id) AS place FROM kin) kin
      JOIN own ON own.workspace_id = kin.workspace_id LEFT JOIN start ON start.workspace_id = kin.workspace_id
     WHERE kin.place <= own.n + coalesce(start.free, 0)
       AND (kin.parallel IS NULL OR kin.of_run <= (SELECT count(*) FROM done JOIN run ON run.step_id = done.id
                                                    WHERE done.run_id = kin.run_id AND NOT run.over_cap))
), child AS (
    UPDATE runs_step c
       SET deps_left = c.deps_left - ends.parents,
           status = CASE WHEN c.deps_left > ends.parents THEN 'blocked' WHEN pick.token IS NOT NULL THEN 'running'
                         WHEN pick.key IS NOT NULL THEN 'ready' ELSE 'queued' END,
           held = CASE WHEN c.deps_left > ends.parents THEN '' WHEN ends.run_status IN ('paused', 'waiting') THEN 'paused'
                       WHEN ends.parallel IS NOT NULL AND pick.id IS NULL THEN 'parallel' ELSE '' END,
           fair_key = coalesce(pick.key, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint) - ends.priority * 30000000,
           ready_at = CASE WHEN c.deps_left = ends.parents AND (pick.token IS NOT NULL OR pick.key IS NOT NULL)
                           THEN clock_timestamp() END,
           attempt = c.attempt + (c.deps_left = ends.parents AND pick.token IS NOT NULL)::int,
           claim_token = CASE WHEN c.deps_left = ends.parents THEN pick.token END,
           lease_owner = CASE WHEN c.deps_left = ends.parents AND pick.token IS NOT NULL THEN %(owner)s ELSE '' END,
           lease_expires_at = CASE WHEN c.deps_left = ends.parents AND pick.token IS NOT NULL
                                   THEN clock_timestamp() + make_interval(secs => %(lease_s)s) END,
           claimed_at = CASE WHEN c.deps_left = ends.parents AND pick.token IS NOT NULL THEN clock_timestamp() END,
           started_at = CASE WHEN c.deps_left = ends.parents AND pick.token IS NOT NULL
                             THEN coalesce(c.started_at, clock_timestamp()) ELSE c.started_at END
      FROM ends LEFT JOIN pick ON pick.id = ends.child_id
     WHERE c.id = ends.child_id AND c.id = ANY (ARRAY(SELECT child_id FROM ends)) AND c.status = 'blocked'
    RETURNING c.status, c.held, c.id, c.workspace_id, c.run_id, c.key, c.kind, c.tool, c.objective, c.arguments, c.depends_on,
              c.lane, c.effect, c.timeout_s, c.max_attempts, c.reason, c.attempt, c.failures, c.claim_token, c.lease_owner, c.available_at, c.approval
), n AS (
    SELECT run_id,
           count(*) FILTER (WHERE status = 'running') AS claimed,
           count(*) FILTER (WHERE status <> 'blocked') AS activated,
           count(*) FILTER (WHERE status <> 'blocked' AND held = '') AS placed,
           array_agg(DISTINCT lane::text) FILTER (
               WHERE status = 'queued' AND held = '' AND (lane <> %(lane)s OR NOT EXISTS (SELECT FROM slot))) AS queued_lanes,
           array_agg(lane::text) FILTER (WHERE status = 'ready') AS ready_lanes
      FROM child GROUP BY run_id
), moved AS (
    UPDATE runs_run r
       SET event_seq = r.event_seq + d.steps + d.claimed
               + (d.last OR (r.status = 'running' AND r.active_steps + d.activated = d.steps))::int,
           open_steps = r.open_steps - d.steps,
           active_steps = r.active_steps - d.steps + d.activated,
           steps_done = r.steps_done + d.steps,
           tool_calls = r.tool_calls + d.tool_calls,
           model_calls = r.model_calls + d.model_calls,
           input_tokens = r.input_tokens + d.input_tokens,
           output_tokens = r.output_tokens + d.output_tokens,
           cost_usd = r.cost_usd + d.cost_usd,
           status = CASE
               WHEN d.last AND r.status <> 'cancelling' THEN d.ended
               WHEN d.last THEN CASE WHEN r.error IS NULL THEN 'cancelled' ELSE 'failed' END
               WHEN r.status = 'running' AND r.active_steps + d.activated = d.steps THEN 'waiting' ELSE r.status END,
           reason = CASE
               WHEN d.last AND r.status <> 'cancelling' THEN d.end_reason
               WHEN d.last THEN r.stop_reason
               WHEN r.status = 'running' AND r.active_steps + d.activated = d.steps THEN r.parked_reason ELSE r.reason END,
           error = CASE WHEN r.status <> 'cancelling' THEN d.error ELSE r.error END,
           result = CASE WHEN r.status <> 'cancelling' THEN d.result END,
           finished_at = CASE WHEN d.last THEN clock_timestamp() END
      FROM (SELECT done.*, coalesce(n.claimed, 0) AS claimed, coalesce(n.activated, 0) AS activated, n.queued_lanes, n.ready_lanes,
                   done.parallel IS NOT NULL AND NOT done.last
                       AND (done.steps > coalesce(n.placed, 0) OR n.activated > n.placed) AS roomy
              FROM (SELECT run.run_id, array_agg(done.id) AS ids, count(*) AS steps, bool_or(run.last) AS last, max(run.parallel) AS parallel,
                           count(*) FILTER (WHERE done.kind = 'tool') AS tool_calls,
                           sum(run.model_calls) AS model_calls, sum(run.input_tokens) AS input_tokens,
                           sum(run.output_tokens) AS output_tokens, sum(run.cost_usd) AS cost_usd,
                           max(run.ended) AS ended, max(run.end_reason) AS end_reason,
                           (array_agg(run.error))[1] AS error, (array_agg(run.result))[1] AS result
                      FROM done JOIN run ON run.step_id = done.id GROUP BY run.run_id) done
              LEFT JOIN n ON n.run_id = done.run_id) d
     WHERE r.id = d.run_id AND r.id = ANY (ARRAY(SELECT run_id FROM run))
    RETURNING r.id, r.workspace_id, r.event_seq, r.open_steps, r.plan_version, r.status, r.reason, d.ids, d.steps,
              d.claimed, d.queued_lanes, d.ready_lanes, d.roomy, CASE WHEN d.last THEN r.parent_step END AS parent_step,
              (d.last OR (r.status = 'waiting' AND r.held_at IS NULL))::int AS turned
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, at, seq, type, step, data)
    SELECT m.workspace_id, m.id, clock_timestamp(), m.event_seq - m.turned - m.claimed - m.steps
               + row_number() OVER (PARTITION BY m.id ORDER BY done.id),
           'step.succeeded', done.key, jsonb_build_object('attempt', done.attempt)
      FROM moved m JOIN done ON done.run_id = m.id
    UNION ALL
    SELECT m.workspace_id, m.id, clock_timestamp(), m.event_seq - m.turned - m.claimed
               + row_number() OVER (PARTITION BY m.id ORDER BY child.id),
           'step.started', child.key, jsonb_build_object('attempt', child.attempt, 'worker', child.lease_owner)
      FROM moved m JOIN child ON child.run_id = m.id AND child.status = 'running'
    UNION ALL
    SELECT m.workspace_id, m.id, clock_timestamp(), m.event_seq, 'run.' || m.status, '',
           jsonb_build_object('reason', m.reason)
      FROM moved m WHERE m.turned = 1
), attempt AS (
    INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome, started_at, ended_at)
    SELECT claim_token, workspace_id, run_id, id, attempt, lease_owner, 'succeeded', claimed_at, clock_timestamp()
      FROM done
    ON CONFLICT (id) DO NOTHING
), freed AS MATERIALIZED (
    SELECT own.workspace_id, own.n - coalesce(k.taken, 0) AS n, coalesce(k.taken, 0) AS taken, coalesce(k.queued, 0) AS queued
      FROM own LEFT JOIN (SELECT workspace_id, count(*) FILTER (WHERE status IN ('running', 'ready')) AS taken,
                                 count(*) FILTER (WHERE status = 'queued' AND held = '') AS queued
                            FROM child WHERE lane = %(lane)s GROUP BY workspace_id) k ON k.workspace_id = own.workspace_id
     WHERE own.n <> coalesce(k.taken, 0) OR EXISTS (SELECT FROM slot)
), locked AS MATERIALIZED (
    SELECT id, used, lim, over FROM runs_laneslot
     WHERE workspace_id = ANY (ARRAY(SELECT workspace_id FROM freed)) AND lane = %(lane)s
     ORDER BY workspace_id FOR NO KEY UPDATE
), left_over AS (
    UPDATE runs_laneslot l
       SET used = greatest(0, locked.used - freed.n), lim = locked.lim,
           over = least(locked.over, greatest(0, locked.used - freed.n - locked.lim)),
           hungry = l.hungry OR freed.queued > 0,
           next_key = CASE WHEN freed.n < 0 THEN (start.key + freed.taken * start.spacing)::bigint ELSE l.next_key END
      FROM locked, freed LEFT JOIN start ON start.workspace_id = freed.workspace_id
     WHERE l.id = locked.id AND l.id = ANY (ARRAY(SELECT id FROM locked)) AND l.workspace_id = freed.workspace_id
    RETURNING l.workspace_id, l.hungry AND l.used < l.lim AS hungry
)
SELECT child.*, moved.id AS moved_id, moved.workspace_id AS moved_workspace, moved.ids AS moved_steps, moved.open_steps AS run_open_steps,
       moved.plan_version AS run_plan_version, moved.queued_lanes, moved.ready_lanes, moved.parent_step, moved.roomy,
       coalesce(left_over.hungry, false) AS hungry
  FROM moved LEFT JOIN child ON child.run_id = moved.id AND child.status = 'running'
  LEFT JOIN left_over ON left_over.workspace_id = moved.workspace_id;

-- name: completion_state
-- Why complete found nothing: already done, fenced, or the run has changed since it was read.
SELECT s.status, s.claim_token = %(token)s::uuid AS ours, r.open_steps, r.plan_version, r.limits ? 'parallel' AS capped,
       CASE WHEN r.finished_at IS NOT NULL THEN r.parent_step END AS parent_step
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.id = %(step_id)s;

-- name: endings
-- What the results of some runs are made of: beside the run, the outputs of the steps that its answer template
-- names, or of those nobody depends on.
SELECT r.id, r.open_steps, r.plan_version, r.answer, r.output_schema, runs_value(r.workspace_id, r.input) AS input, r.goal, r.status, o.outputs
  FROM runs_run r CROSS JOIN LATERAL (
       SELECT coalesce(jsonb_object_agg(s.key, runs_value(s.workspace_id, s.output)), '{}') AS outputs FROM runs_step s
        WHERE s.run_id = r.id AND s.kind <> 'plan' AND s.reason <> 'superseded' AND s.caller = ''
          AND CASE WHEN r.answer IS NULL THEN NOT EXISTS (SELECT 1 FROM runs_stepedge e WHERE e.parent_id = s.id)
                   ELSE r.answer -> 'keys' ? s.key END) o
 WHERE r.id = ANY(%(run_ids)s::uuid[]);

-- name: outputs
-- Outputs of the named steps of a run.
SELECT key, runs_value(workspace_id, output) AS output FROM runs_step WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[]);
