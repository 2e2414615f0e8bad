-- name: lock_run
-- The first lock of every transaction that moves a run; the row as it is under the lock.
SELECT * FROM runs_run WHERE id = %(run_id)s FOR NO KEY UPDATE;

-- name: held
-- A running step as its holder left it, locked after its run.  A call of it is over when its time is, and the
-- moment (s) that a process takes to end it.
SELECT *, lease_expires_at < clock_timestamp() AS expired, clock_timestamp() AS now,
       effect_started_at + make_interval(secs => timeout_s + %(grace_s)s) AS call_over_at FROM runs_step
 WHERE id = %(step_id)s AND claim_token = %(token)s AND status = 'running' FOR NO KEY UPDATE;

-- name: leave_running
-- running -> to, while the claim still holds; under the run's lock.  A step whose unsafe call may have
-- started goes back only with the word that nothing was sent, or to have its check asked: then the call's start
-- stays, and keeps the gate shut.  To ready it goes with its slot, and not behind those that are ready: its place is
-- that of a clock that may have run differently since.
UPDATE runs_step s
   SET status = %(to)s::text, reason = %(reason)s, error = %(error)s::jsonb, output = %(output)s::jsonb, usage = %(usage)s::jsonb,
       failures = s.failures + %(failed)s, crashes = s.crashes + %(crashed)s,
       lease_expires_at = NULL,
       checks = CASE WHEN %(reason)s <> 'verify' THEN 0 WHEN s.reason = 'verify' THEN s.checks + %(checked)s ELSE 0 END,
       effect_started_at = CASE WHEN %(to)s::text NOT IN ('ready', 'queued', 'sleeping') OR %(reason)s = 'verify'
                                THEN s.effect_started_at END,
       available_at = CASE WHEN %(at)s::timestamptz IS NOT NULL THEN %(at)s::timestamptz
                           WHEN %(delay_s)s::float8 IS NOT NULL
                           THEN clock_timestamp() + make_interval(secs => %(delay_s)s::float8) END,
       ready_at = CASE WHEN %(to)s::text = 'ready' THEN clock_timestamp() ELSE s.ready_at END,
       held = CASE WHEN %(to)s::text = 'queued' THEN %(held)s ELSE '' END,
       fair_key = CASE WHEN %(to)s::text = 'ready' THEN least(s.fair_key, coalesce(
                           (SELECT first.fair_key FROM runs_step first WHERE first.status = 'ready' AND first.lane = s.lane
                             ORDER BY first.fair_key LIMIT 1), (extract(epoch FROM clock_timestamp()) * 1e6)::bigint))
                       WHEN %(to)s::text = 'queued'
                       THEN (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000
                       ELSE s.fair_key END,
       finished_at = CASE WHEN %(to)s::text IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END
 WHERE s.id = %(step_id)s AND s.claim_token = %(token)s::uuid AND s.status = 'running'
   AND (%(to)s::text NOT IN ('ready', 'queued', 'sleeping') OR s.effect_started_at IS NULL OR %(not_sent)s
        OR (%(reason)s = 'verify' AND s.effect = 'verifiable'))
RETURNING s.*;

-- name: not_done
-- running stays running: the check's word that the call in the dark did not happen; under the run's lock.  From
-- now on the step is as if it had not been called, and its gate can open again.
UPDATE runs_step s SET reason = '', effect_started_at = NULL, checks = 0
 WHERE s.id = %(step_id)s AND s.claim_token = %(token)s::uuid AND s.status = 'running' AND s.reason = 'verify'
RETURNING s.id;

-- name: leave_waiting
-- waiting -> to, by a counterpart's word; under the run's lock.
UPDATE runs_step s
   SET status = %(to)s::text, reason = '', output = %(output)s::jsonb, error = %(error)s::jsonb, available_at = NULL,
       claim_token = NULL,
       effect_started_at = CASE WHEN %(to)s::text = 'queued' THEN NULL ELSE s.effect_started_at END,
       fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000,
       held = CASE WHEN %(to)s::text = 'queued' THEN %(held)s ELSE '' END,
       finished_at = CASE WHEN %(to)s::text = 'queued' THEN NULL ELSE clock_timestamp() END
 WHERE s.run_id = %(run_id)s AND s.key = %(key)s AND s.status = 'waiting' AND s.reason = %(reason)s
RETURNING s.*;

-- name: insert_attempt
INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome, error, started_at, ended_at)
VALUES (%(token)s, %(workspace_id)s, %(run_id)s, %(step_id)s, %(number)s, %(worker)s, %(outcome)s, %(error)s::jsonb,
        %(started_at)s, clock_timestamp())
ON CONFLICT (id) DO NOTHING;

-- name: crashed_attempts
-- The attempts of a step whose worker ended under them, in order.
SELECT number, worker, started_at, ended_at, coalesce(error -> 'data', '{}') AS data FROM runs_attempt
 WHERE step_id = %(step_id)s AND run_id = %(run_id)s AND (outcome = 'crashed' OR error ->> 'code' = 'worker_lost')
 ORDER BY number;

-- name: join_children
-- blocked -> queued for each child of a parent that has ended; under the run's lock, so a plain decrement.
UPDATE runs_step c
   SET deps_left = c.deps_left - 1,
       status = CASE WHEN c.deps_left > 1 THEN 'blocked' ELSE 'queued' END,
       held = CASE WHEN c.deps_left > 1 THEN '' ELSE %(held)s END,
       fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000
  FROM runs_stepedge e
 WHERE e.parent_id = %(step_id)s AND c.id = e.child_id AND c.status = 'blocked'
   AND (NOT %(failed)s OR c.if_failed = 'null')
RETURNING c.id, c.key, c.status, c.lane;

-- name: skip_children
-- blocked -> skipped for each child that needs what a failed or skipped parent did not give.  The key of one that waits
-- for another plan is free from now on: that plan may be made by now, and have a step of the same name.
UPDATE runs_step c
   SET status = 'skipped', reason = 'parent', deps_left = c.deps_left - 1, finished_at = clock_timestamp(),
       key = c.key || CASE WHEN EXISTS (SELECT FROM runs_step plan
                                          JOIN runs_stepedge p ON p.parent_id = plan.id AND p.child_id = c.id
                                         WHERE plan.run_id = c.run_id AND plan.kind = 'plan'
                                           AND plan.status NOT IN ('succeeded', 'failed', 'skipped', 'cancelled'))
                           THEN %(suffix)s ELSE '' END
  FROM runs_stepedge e
 WHERE e.parent_id = %(step_id)s AND c.id = e.child_id AND c.status = 'blocked' AND c.if_failed = 'skip'
RETURNING c.id, c.key, c.lane;

-- name: cancel_open
-- Everything of a run that is not running and not final -> cancelled; in id order under the run's lock.
-- With it end the questions to people that it waits for.
WITH open AS (
    SELECT id, status FROM runs_step
     WHERE run_id = %(run_id)s AND status IN ('blocked', 'queued', 'ready', 'sleeping', 'waiting')
     ORDER BY id FOR NO KEY UPDATE
), closed AS (
    UPDATE runs_approval a SET decision = 'cancelled', decided_at = clock_timestamp()
      FROM open WHERE a.step_id = open.id AND a.decision = ''
    RETURNING a.id, a.step_id
), cancelled AS (
    UPDATE runs_step s
       SET status = 'cancelled', held = '', reason = %(reason)s, available_at = NULL, finished_at = clock_timestamp()
      FROM open LEFT JOIN closed ON closed.step_id = open.id WHERE s.id = open.id
    RETURNING s.id, s.key, s.kind, s.lane, open.status AS was, closed.id AS approval
)
SELECT * FROM cancelled ORDER BY id;

-- name: save_run
-- The run's new state and counters; under its lock.
UPDATE runs_run
   SET status = %(status)s, reason = %(reason)s, error = %(error)s::jsonb, result = %(result)s::jsonb,
       stop_reason = %(stop_reason)s, parked_reason = %(parked_reason)s, retryable = %(retryable)s,
       event_seq = %(event_seq)s, open_steps = %(open_steps)s, active_steps = %(active_steps)s,
       steps_done = %(steps_done)s, plan_version = %(plan_version)s, answer = %(answer)s::jsonb,
       time_up_at = %(time_up_at)s, held_at = %(held_at)s, over_cap = %(over_cap)s,
       tool_calls = tool_calls + %(tool_calls)s, model_calls = model_calls + %(model_calls)s,
       input_tokens = input_tokens + %(input_tokens)s, output_tokens = output_tokens + %(output_tokens)s,
       cost_usd = cost_usd + %(cost_usd)s,
       cancel_at = CASE WHEN %(cancelling)s THEN coalesce(cancel_at, clock_timestamp()) ELSE cancel_at END,
       finished_at = CASE WHEN %(final)s THEN clock_timestamp() END
 WHERE id = %(run_id)s;

-- name: insert_events
INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)
SELECT %(workspace_id)s, %(run_id)s, e.seq, e.type, e.step, clock_timestamp(), e.data
  FROM jsonb_to_recordset(%(events)s::jsonb) AS e(seq int, type text, step text, data jsonb);

-- name: current_versions
-- What new runs of these agents pin.
SELECT a.slug, v.* FROM agents_agent a JOIN agents_agentversion v ON v.id = a.current_version_id
 WHERE a.workspace_id = %(workspace_id)s AND a.slug = ANY(%(slugs)s::text[]);

-- name: insert_runs
-- One statement, however many runs: them, their steps, their edges, their first events; nothing of a run whose
-- key is taken.  They come as JSON in one parameter, in the order in which they (and their steps) get their ids.
-- Whether start_at lies in the future is asked of one moment, or a step could sleep without a time.
-- The slots' rows are locked before anything is written, so nobody who waits for a key of ours holds one.  A first
-- step is ready if a slot is free at its place in the lane (counted over all runs given); the others are queued.
-- "wanting" are the lanes where a slot may be free all the same: others wait for it (hungry) and come first, a run that
-- sleeps leaves its place, a row is missing.
-- All that differs from call to call is in the rows: a parameter in a condition would have each call planned anew.
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(runs)s::jsonb) AS g(n int, id uuid, agent text, agent_version_id uuid,
        only_if_current boolean, goal text, plan jsonb, answer jsonb, input jsonb, model text, output_schema jsonb,
        labels jsonb, limits jsonb, priority int, idempotency_key text, request_digest text, start_at timestamptz,
        deadline_s float8, open_steps int, active_steps int, steps jsonb, places jsonb)
), slot AS MATERIALIZED (
    SELECT *, CASE WHEN hungry THEN 0 ELSE greatest(0, lim - used) END AS free FROM runs_laneslot
     WHERE workspace_id = %(workspace_id)s::uuid
       AND lane = ANY (ARRAY(SELECT DISTINCT p.lane FROM given g, jsonb_object_keys(g.places) AS p(lane)))
     ORDER BY lane FOR NO KEY UPDATE
), start AS MATERIALIZED (
    SELECT slot.*, 10000000 / weight AS spacing,
           least(greatest(next_key, level.key), level.key + used * (10000000 / weight)) AS key
      FROM slot CROSS JOIN LATERAL (
           SELECT coalesce(min(tag), extract(epoch FROM clock_timestamp()) * 1e6) AS key
             FROM (SELECT s.fair_key + (SELECT priority FROM runs_run WHERE id = s.run_id) * 30000000 AS tag FROM runs_step s
                    WHERE s.status = 'ready' AND s.lane = slot.lane ORDER BY s.fair_key LIMIT 8) first) level
), run AS (
    INSERT INTO runs_run (id, workspace_id, agent_version_id, created_by_id, forked_from_step, depth, goal, plan, answer,
        plan_version, input, model, output_schema, effects, labels, limits, priority, status, reason, stop_reason,
        parked_reason, retryable, event_seq, open_steps, active_steps, steps_done, input_tokens, output_tokens, cost_usd,
        model_calls, tool_calls, idempotency_key, request_digest, start_at, deadline_at, time_up_at, created_at)
    SELECT g.id, %(workspace_id)s::uuid, g.agent_version_id, %(created_by_id)s::bigint, '', 0, g.goal, g.plan, g.answer,
        0, g.input, g.model, g.output_schema, 'live', g.labels, g.limits, g.priority, 'queued',
        CASE WHEN g.start_at > statement_timestamp() THEN 'start_at'
             WHEN EXISTS (SELECT FROM jsonb_each_text(g.places) AS p(lane, first) JOIN start USING (lane)
                           WHERE p.first::int <= start.free) THEN '' ELSE 'concurrency' END, '',
        '', false, 1, g.open_steps, g.active_steps, 0, 0, 0, 0, 0, 0, g.idempotency_key, g.request_digest, g.start_at,
        clock_timestamp() + make_interval(secs => g.deadline_s),
        greatest(g.start_at, clock_timestamp()) + make_interval(secs => (g.limits ->> 'time_s')::float8), clock_timestamp()
      FROM given g
     WHERE NOT g.only_if_current OR EXISTS (
        SELECT FROM agents_agent a
         WHERE a.workspace_id = %(workspace_id)s::uuid AND a.slug = g.agent AND a.current_version_id = g.agent_version_id)
     ORDER BY g.n
    ON CONFLICT (workspace_id, idempotency_key) DO NOTHING
    RETURNING id, workspace_id, status, reason, deadline_at, created_at
), step AS (
    INSERT INTO runs_step (workspace_id, run_id, key, kind, tool, title, objective, arguments, depends_on, lane, effect,
        on_error, if_failed, approval, expires_s, plan_version, timeout_s, max_attempts, status, reason, deps_left, fair_key,
        held, available_at, attempt, failures, crashes, lease_owner, created_at, ready_at)
    SELECT run.workspace_id, run.id, s.key, s.kind, s.tool, s.title, s.objective, s.arguments, s.depends_on, s.lane,
        s.effect, s.on_error, s.if_failed, s.approval, s.expires_s, 0, s.timeout_s, s.max_attempts,
        CASE WHEN s.deps_left > 0 THEN 'blocked' WHEN g.start_at > statement_timestamp() THEN 'sleeping'
             WHEN s.place <= start.free THEN 'ready' ELSE 'queued' END,
        CASE WHEN s.deps_left = 0 AND g.start_at > statement_timestamp() THEN 'start_at' ELSE '' END, s.deps_left,
        CASE WHEN s.place <= start.free THEN (start.key + s.place * start.spacing)::bigint
             ELSE (extract(epoch FROM clock_timestamp()) * 1e6)::bigint END - g.priority * 30000000,
        CASE WHEN g.start_at > statement_timestamp() THEN '' ELSE coalesce(s.held, '') END,
        CASE WHEN s.deps_left = 0 AND g.start_at > statement_timestamp() THEN g.start_at END, 0, 0, 0, '',
        clock_timestamp(), CASE WHEN s.place <= start.free THEN clock_timestamp() END
      FROM run JOIN given g ON g.id = run.id CROSS JOIN LATERAL
        jsonb_to_recordset(g.steps) AS s(n int, key text, kind text, tool text, title text, objective text,
        arguments jsonb, depends_on varchar[], lane text, effect text, on_error text, if_failed text, approval boolean,
        expires_s float8, timeout_s float8, max_attempts int, deps_left int, place int, held text)
      LEFT JOIN start ON start.lane = s.lane
     ORDER BY g.n, s.n
    RETURNING id, key, run_id, workspace_id, depends_on, status, held, lane
), n AS MATERIALIZED (
    SELECT lane, count(*) FILTER (WHERE status = 'ready') AS ready,
           count(*) FILTER (WHERE status = 'queued' AND held = '') AS queued
      FROM step GROUP BY lane
), took AS (
    UPDATE runs_laneslot l
       SET used = start.used + n.ready, lim = start.lim, over = start.over, hungry = l.hungry OR n.queued > 0,
           next_key = CASE WHEN n.ready > 0 THEN (start.key + n.ready * start.spacing)::bigint ELSE l.next_key END
      FROM start JOIN n ON n.lane = start.lane
     WHERE l.id = start.id AND n.ready + n.queued > 0
), edge AS (
    INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
    SELECT c.workspace_id, c.run_id, p.id, c.id
      FROM step c CROSS JOIN unnest(c.depends_on) AS d(key) JOIN step p ON p.run_id = c.run_id AND p.key = d.key
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)
    SELECT workspace_id, id, 1, 'run.queued', '', clock_timestamp(), '{}'::jsonb FROM run
)
SELECT run.id, run.status, run.reason, run.deadline_at, run.created_at,
       ARRAY(SELECT n.lane::text FROM n LEFT JOIN start ON start.lane = n.lane
              WHERE n.queued > 0 AND n.ready < coalesce(start.lim - start.used, 1)) AS wanting
  FROM run;

-- name: insert_steps
-- New steps of a live run and their edges; under its lock.  Their parents are among them, or among the given ids.
WITH step AS (
    INSERT INTO runs_step (workspace_id, run_id, key, kind, tool, title, objective, arguments, depends_on, lane, effect,
        on_error, if_failed, approval, expires_s, plan_version, timeout_s, max_attempts, status, reason, deps_left, fair_key,
        held, caller, available_at, attempt, failures, crashes, lease_owner, created_at)
    SELECT %(workspace_id)s, %(run_id)s, s.key, s.kind, s.tool, s.title, s.objective, s.arguments, s.depends_on, s.lane,
        s.effect, s.on_error, s.if_failed, s.approval, s.expires_s, %(plan_version)s, s.timeout_s, s.max_attempts,
        CASE WHEN s.deps_left > 0 THEN 'blocked' WHEN t.not_before IS NOT NULL THEN 'sleeping' ELSE 'queued' END,
        CASE WHEN s.deps_left = 0 AND t.not_before IS NOT NULL THEN 'start_at' ELSE '' END, s.deps_left,
        (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000,
        CASE WHEN s.deps_left > 0 OR t.not_before IS NOT NULL THEN '' ELSE %(held)s END, coalesce(s.caller, ''),
        CASE WHEN s.deps_left = 0 THEN t.not_before END, 0, 0, 0, '', clock_timestamp()
      FROM jsonb_to_recordset(%(steps)s::jsonb) AS s(n int, key text, kind text, tool text, title text, objective text,
        arguments jsonb, depends_on varchar[], lane text, effect text, on_error text, if_failed text, approval boolean,
        expires_s float8, timeout_s float8, max_attempts int, deps_left int, caller text),
           (SELECT CASE WHEN %(not_before)s::timestamptz > statement_timestamp() THEN %(not_before)s::timestamptz END
                AS not_before) t
     ORDER BY s.n
    RETURNING id, key, status, lane
), parent AS (
    SELECT id, key FROM step UNION ALL SELECT id, key FROM runs_step WHERE id = ANY(%(beside)s::bigint[])
), edge AS (
    INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
    SELECT %(workspace_id)s, %(run_id)s, p.id, c.id
      FROM jsonb_to_recordset(%(edges)s::jsonb) AS e(parent text, child text)
      JOIN parent p ON p.key = e.parent JOIN step c ON c.key = e.child
)
SELECT id, lane, status FROM step ORDER BY id;
