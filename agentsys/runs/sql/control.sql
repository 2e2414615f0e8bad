-- name: hold_ready
-- ready -> queued for all that a claim could take, and held there, as what was queued before; in id order under the
-- run's lock.  Sleepers are locked, too: the one sweep that moves steps without their run's lock may be about to wake
-- them (see hold_woken).
WITH open AS (
    SELECT id, status FROM runs_step
     WHERE run_id = %(run_id)s AND status IN ('queued', 'ready', 'sleeping')
     ORDER BY id FOR NO KEY UPDATE
)
UPDATE runs_step s SET status = 'queued', held = 'paused', ready_at = NULL
  FROM open WHERE s.id = open.id AND open.status IN ('queued', 'ready')
RETURNING s.lane, open.status AS was;

-- name: release_held
-- What a pause held back may be admitted again, or waits for a place among the run's parallel steps; in id order under
-- the run's lock.  Sleepers are locked, too, as in hold_ready: the sweep that is about to wake one has seen the pause.
WITH kept AS (
    SELECT id, status, held FROM runs_step
     WHERE run_id = %(run_id)s AND status IN ('queued', 'sleeping') ORDER BY id FOR NO KEY UPDATE
)
UPDATE runs_step s
   SET held = %(held)s, fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000
  FROM kept WHERE s.id = kept.id AND kept.status = 'queued' AND kept.held = 'paused'
RETURNING s.lane;

-- name: fit_parallel
-- Of a run with a cap, as many steps want a slot, are ready or running as it says: the next ones that wait for a place
-- get theirs; where the cap was lowered, what has not started loses it, what waits for a slot before what is ready (their
-- fair_key are of two clocks), the last first.  Under the run's lock, so that nobody else gives or frees a place.  "room"
-- is how many places there were, below 0 how many too many.  "fit" is materialized: to the rows of a UNION ALL that is
-- joined as it stands, PostgreSQL does not come back for a row that "admit" has made ready since this snapshot.
WITH place AS MATERIALIZED (
    SELECT id, status, fair_key FROM runs_step
     WHERE run_id = %(run_id)s AND (status IN ('ready', 'running') OR (status = 'queued' AND held = ''))
), room AS MATERIALIZED (
    SELECT %(parallel)s - count(*) AS n FROM place
), over AS MATERIALIZED (
    SELECT id, status, CASE status WHEN 'ready' THEN (extract(epoch FROM ready_at) * 1e6)::bigint - %(priority)s * 30000000
                                   ELSE fair_key END AS key
      FROM runs_step
     WHERE id = ANY (ARRAY(SELECT id FROM place WHERE status <> 'running'
                            ORDER BY status = 'ready', fair_key DESC, id DESC LIMIT (SELECT greatest(0, -n) FROM room)))
       AND status IN ('ready', 'queued') ORDER BY id FOR NO KEY UPDATE
), next AS MATERIALIZED (
    SELECT id, status, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000 AS key
      FROM runs_step WHERE run_id = %(run_id)s AND status = 'queued' AND held = 'parallel'
     ORDER BY fair_key, id LIMIT (SELECT greatest(0, n) FROM room) FOR NO KEY UPDATE
), fit AS MATERIALIZED (
    SELECT *, false AS gets FROM over UNION ALL SELECT *, true FROM next
), moved AS (
    UPDATE runs_step s
       SET status = 'queued', held = CASE WHEN fit.gets THEN '' ELSE 'parallel' END, ready_at = NULL, fair_key = fit.key
      FROM fit WHERE s.id = fit.id
    RETURNING s.lane, fit.status AS was, fit.gets
)
SELECT room.n AS room, moved.* FROM room LEFT JOIN moved ON true;

-- name: lock_free_runs
-- Those of these runs that nobody else moves at the moment; in the order of their ids, as "complete" locks them.
SELECT id FROM runs_run WHERE id = ANY (%(run_ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED;

-- name: fit_runs
-- Places for what waits for them in runs that are locked, by a snapshot of this statement's own; what "fit_parallel"
-- does for one, but for a cap that was lowered.
WITH room AS MATERIALIZED (
    SELECT r.id, r.priority, r.over_cap, (r.limits -> 'parallel')::int - used.n AS n
      FROM runs_run r CROSS JOIN LATERAL (
           SELECT count(*) AS n FROM runs_step s
            WHERE s.run_id = r.id AND (s.status IN ('ready', 'running') OR (s.status = 'queued' AND s.held = ''))) used
     WHERE r.id = ANY (%(run_ids)s::uuid[]) AND r.status IN ('queued', 'running', 'waiting') AND r.held_at IS NULL
), next AS MATERIALIZED (
    SELECT s.id, room.priority FROM room CROSS JOIN LATERAL (
           SELECT id FROM runs_step WHERE run_id = room.id AND status = 'queued' AND held = 'parallel'
            ORDER BY fair_key, id LIMIT greatest(0, room.n) FOR NO KEY UPDATE) s
), within AS (
    UPDATE runs_run r SET over_cap = false FROM room WHERE r.id = room.id AND r.over_cap AND room.n >= 0
)
UPDATE runs_step s
   SET held = '', fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - next.priority * 30000000
  FROM next WHERE s.id = next.id AND s.status = 'queued' AND s.held = 'parallel'
RETURNING s.workspace_id, s.lane;

-- name: waits_for_its_start
-- Does a run that has not started wait for its start_at?
SELECT 1 AS found FROM runs_step WHERE run_id = %(run_id)s AND status = 'sleeping' AND reason = 'start_at' LIMIT 1;

-- name: origin_steps
-- The steps of a run that another one is made from, and what the run says of its plan, in one snapshot.  Outputs are
-- copied where they are.  What a new plan has replaced is no part of it, nor is planning anew that came to nothing.
SELECT s.id, s.key, s.kind, s.tool, s.title, s.objective, runs_value(s.workspace_id, s.arguments) AS arguments, s.depends_on, s.caller, s.lane, s.effect, s.on_error,
       s.if_failed, s.approval, s.expires_s, s.plan_version, s.timeout_s, s.max_attempts, s.status, s.error ->> 'code' AS error_code,
       s.finished_at, s.effect_started_at IS NOT NULL AS begun, r.answer AS run_answer
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.run_id = %(run_id)s AND s.reason <> 'superseded'
   AND (s.kind <> 'plan' OR s.arguments IS NULL OR s.status = 'succeeded')
 ORDER BY s.id;

-- name: insert_derived
-- One statement: a run made from another one (a retry, a fork, a child), its steps, of which some may have ended or
-- wait already, their edges, its budgets, the other run's files if wanted, its first events; nothing at all when the
-- idempotency key or the parent's step is taken.  It keeps what the steps that it copies have kept.
WITH run AS (
    INSERT INTO runs_run (id, workspace_id, agent_version_id, created_by_id, parent_run_id, parent_step, forked_from_step,
        depth, goal, plan, answer, plan_version, input, model, output_schema, effects, labels, limits, priority, status,
        reason, stop_reason, parked_reason, retryable, event_seq, open_steps, active_steps, steps_done, input_tokens,
        output_tokens, cost_usd, model_calls, tool_calls, idempotency_key, request_digest, deadline_at, time_up_at, created_at)
    VALUES (%(id)s, %(workspace_id)s, %(agent_version_id)s, %(created_by_id)s, %(parent_run_id)s, %(parent_step)s,
        %(forked_from_step)s, %(depth)s, %(goal)s, %(plan)s::jsonb, %(answer)s::jsonb, %(plan_version)s, %(input)s::jsonb,
        %(model)s, %(output_schema)s::jsonb, %(effects)s, %(labels)s::jsonb, %(limits)s::jsonb, %(priority)s, %(status)s,
        %(reason)s, '', %(reason)s, false, %(event_seq)s, %(open_steps)s, %(active_steps)s, 0, 0, 0, 0, 0, 0,
        %(idempotency_key)s, %(request_digest)s,
        least(%(deadline_at)s::timestamptz, clock_timestamp() + make_interval(secs => %(deadline_s)s::float8)),
        clock_timestamp() + make_interval(secs => (%(limits)s::jsonb ->> 'time_s')::float8),
        clock_timestamp())
    ON CONFLICT DO NOTHING
    RETURNING *
), step AS (
    INSERT INTO runs_step (workspace_id, run_id, key, kind, tool, title, objective, arguments, depends_on, lane, effect,
        on_error, if_failed, approval, expires_s, plan_version, timeout_s, max_attempts, status, reason, deps_left, fair_key,
        held, caller, attempt, failures, crashes, lease_owner, created_at, ready_at, output, error, effect_started_at,
        started_at, finished_at)
    SELECT run.workspace_id, run.id, s.key, s.kind, s.tool, s.title, s.objective, s.arguments, s.depends_on, s.lane,
        s.effect, s.on_error, s.if_failed, s.approval, s.expires_s, s.plan_version, s.timeout_s, s.max_attempts, s.status, s.reason,
        s.deps_left, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - run.priority * 30000000,
        coalesce(s.held, ''), coalesce(s.caller, ''), 0, 0, 0, '', clock_timestamp(), NULL, o.output, o.error, o.effect_started_at, o.started_at,
        CASE WHEN s.reason = 'recorded' THEN o.finished_at END
      FROM run CROSS JOIN jsonb_to_recordset(%(steps)s::jsonb) AS s(n int, key text, kind text, tool text, title text,
        objective text, arguments jsonb, depends_on varchar[], lane text, effect text, on_error text, if_failed text,
        approval boolean, expires_s float8, plan_version int, timeout_s float8, max_attempts int, deps_left int, status text, reason text,
        held text, caller text, origin bigint)
      LEFT JOIN runs_step o ON o.id = s.origin
     ORDER BY s.n
    RETURNING id, key, run_id, workspace_id
), edge AS (
    INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
    SELECT p.workspace_id, p.run_id, p.id, c.id
      FROM jsonb_to_recordset(%(edges)s::jsonb) AS e(parent text, child text)
      JOIN step p ON p.key = e.parent JOIN step c ON c.key = e.child
), file AS (
    INSERT INTO runs_runfile (workspace_id, run_id, name, payload_id, before_id, written_by, written_at)
    SELECT run.workspace_id, run.id, f.name, f.payload_id, f.before_id, f.written_by, f.written_at
      FROM run JOIN runs_runfile f ON f.run_id = %(files_of)s::uuid
), used AS (
    INSERT INTO runs_payloaduse (workspace_id, run_id, payload_id)
    SELECT DISTINCT run.workspace_id, run.id, p.id
      FROM run CROSS JOIN jsonb_to_recordset(%(steps)s::jsonb) AS s(origin bigint)
      JOIN runs_step o ON o.id = s.origin AND o.output ? '$payload' AND jsonb_typeof(o.output) = 'object'
      JOIN runs_payload p ON p.workspace_id = run.workspace_id AND p.sha256 = o.output ->> '$payload'
), budget AS (
    INSERT INTO runs_budget (workspace_id, run_id, kind, lim, spent, reserved, warned)
    SELECT run.workspace_id, run.id, CASE l.key WHEN 'cost_usd' THEN 'cost_micros' ELSE l.key END,
           floor(CASE l.key WHEN 'cost_usd' THEN 1000000 ELSE 1 END * l.value::numeric)::bigint,
           CASE l.key WHEN 'steps' THEN n.steps ELSE 0 END, 0, l.key = 'steps' AND n.steps * 5 >= l.value::numeric * 4
      FROM run CROSS JOIN jsonb_each_text(run.limits) AS l(key, value)
     CROSS JOIN LATERAL (SELECT count(*) AS steps FROM jsonb_array_elements(%(steps)s::jsonb) AS s
                          WHERE s ->> 'kind' <> 'plan' AND s ->> 'reason' <> 'recorded') n
     WHERE l.key IN ('steps', 'tokens', 'cost_usd')
), event AS (
    INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)
    SELECT run.workspace_id, run.id, e.seq, e.type, e.step, clock_timestamp(), e.data
      FROM run, jsonb_to_recordset(%(events)s::jsonb) AS e(seq int, type text, step text, data jsonb)
)
SELECT * FROM run;

-- name: delegation_used
-- How many times a run has delegated, up to this step in plan order.  Whether the step may still delegate: its claim
-- holds, and its run does not stop.
SELECT EXISTS (SELECT FROM runs_step s JOIN runs_run r ON r.id = s.run_id
                WHERE s.id = %(step_id)s AND s.claim_token = %(token)s AND s.status = 'running' AND r.cancel_at IS NULL) AS may,
       (SELECT count(*) FROM runs_step
         WHERE run_id = %(run_id)s AND kind = 'delegate' AND id <= %(step_id)s) AS children;

-- name: ended_child
-- The child that a step waits for, once it has ended; no lock, for it does not change any more.
SELECT c.id, c.status, c.reason, c.result, c.error, s.run_id, s.key
  FROM runs_run c JOIN runs_step s ON s.id = c.parent_step
 WHERE c.parent_step = %(step_id)s AND c.finished_at IS NOT NULL AND s.status = 'waiting' AND s.reason = 'child';

-- name: joinable_parents
-- Steps whose child has ended; by an index of those that wait for one.
SELECT s.id FROM runs_step s JOIN runs_run c ON c.parent_step = s.id
 WHERE s.status = 'waiting' AND s.reason = 'child' AND c.finished_at IS NOT NULL
 ORDER BY s.id LIMIT %(limit)s;

-- name: orphans
-- Live children whose step waits for them no more: it was cancelled with its run.
SELECT c.id FROM runs_run c LEFT JOIN runs_step s ON s.id = c.parent_step
 WHERE c.parent_step IS NOT NULL AND c.finished_at IS NULL AND c.status <> 'cancelling'
   AND (s.id IS NULL OR s.status IN ('succeeded', 'failed', 'skipped', 'cancelled'))
 ORDER BY c.id LIMIT %(limit)s;

-- name: orphans_of
-- The same of one run's children.
SELECT c.id FROM runs_run c LEFT JOIN runs_step s ON s.id = c.parent_step
 WHERE c.parent_run_id = %(run_id)s AND c.parent_step IS NOT NULL AND c.finished_at IS NULL AND c.status <> 'cancelling'
   AND (s.id IS NULL OR s.status IN ('succeeded', 'failed', 'skipped', 'cancelled'))
 ORDER BY c.id LIMIT %(limit)s;

-- name: children_unlike
-- Children of a run that do not pause as it does: a paused one's that could go on, and the others' that are paused
-- only because it was.
SELECT c.id, p.status = 'paused' AS parent_paused FROM runs_run c JOIN runs_run p ON p.id = c.parent_run_id
 WHERE c.parent_run_id = %(run_id)s AND c.parent_step IS NOT NULL AND c.finished_at IS NULL
   AND CASE WHEN p.status = 'paused' THEN c.status IN ('queued', 'running', 'waiting')
            ELSE p.status IN ('queued', 'running', 'waiting') AND c.status = 'paused' AND c.reason = 'parent' END
 ORDER BY c.id LIMIT %(limit)s;

-- name: all_children_unlike
-- The same of all runs; by the index of live children.
SELECT c.id, p.status = 'paused' AS parent_paused FROM runs_run c JOIN runs_run p ON p.id = c.parent_run_id
 WHERE c.parent_step IS NOT NULL AND c.finished_at IS NULL
   AND CASE WHEN p.status = 'paused' THEN c.status IN ('queued', 'running', 'waiting')
            ELSE p.status IN ('queued', 'running', 'waiting') AND c.status = 'paused' AND c.reason = 'parent' END
 ORDER BY c.id LIMIT %(limit)s;

-- name: recorded_calls
-- What the runs that this one was made from (by retry or fork, not as a child) have done with a tool: the step of the
-- same key first, then the nearest.
WITH RECURSIVE line AS (
    SELECT r.id, CASE WHEN r.parent_step IS NULL THEN r.parent_run_id END AS origin_id, 0 AS up
      FROM runs_run r WHERE r.id = %(run_id)s
    UNION ALL
    SELECT r.id, CASE WHEN r.parent_step IS NULL THEN r.parent_run_id END, line.up + 1
      FROM line JOIN runs_run r ON r.id = line.origin_id WHERE line.up < 50
)
SELECT s.run_id, s.key, s.kind, runs_value(s.workspace_id, s.arguments) AS arguments, s.objective,
       runs_value(s.workspace_id, s.output) AS output
  FROM line JOIN runs_step s ON s.run_id = line.id
 WHERE line.up > 0 AND s.kind = %(kind)s AND s.tool = %(tool)s AND s.status = 'succeeded'
 ORDER BY s.key <> %(key)s, line.up, s.id LIMIT 50;

-- name: recorded_tools
-- The tools with which the runs that this one was made from have done something.
WITH RECURSIVE line AS (
    SELECT r.id, CASE WHEN r.parent_step IS NULL THEN r.parent_run_id END AS origin_id, 0 AS up
      FROM runs_run r WHERE r.id = %(run_id)s
    UNION ALL
    SELECT r.id, CASE WHEN r.parent_step IS NULL THEN r.parent_run_id END, line.up + 1
      FROM line JOIN runs_run r ON r.id = line.origin_id WHERE line.up < 50
)
SELECT DISTINCT s.tool FROM line JOIN runs_step s ON s.run_id = line.id
 WHERE line.up > 0 AND s.kind = 'tool' AND s.status = 'succeeded' AND s.effect <> 'pure';
