-- name: planning_steps
-- The steps of a run that have planned or will, and how many of them had a failure to plan around; under the run's
-- lock.
SELECT id, key, status, attempt, arguments FROM runs_step WHERE run_id = %(run_id)s AND kind = 'plan' ORDER BY id;

-- name: planning_terms
-- How a version's runs may plan anew.
SELECT mode, planning FROM agents_agentversion WHERE id = %(version_id)s;

-- name: hold_for_plan
-- Whatever has not started -> blocked behind a planning step, as one parent more; in id order under the run's lock.
-- The calls of a step that acts are a part of it, and it has started.
-- Sleepers of this kind wait for the run's start: the planning step does, in their place.
WITH open AS (
    SELECT id, workspace_id, run_id, status FROM runs_step
     WHERE run_id = %(run_id)s AND kind <> 'plan' AND attempt = 0 AND caller = ''
       AND status IN ('blocked', 'queued', 'ready', 'sleeping')
     ORDER BY id FOR NO KEY UPDATE
), edge AS (
    INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
    SELECT workspace_id, run_id, %(plan_id)s, id FROM open
)
UPDATE runs_step s
   SET status = 'blocked', held = '', reason = '', deps_left = s.deps_left + 1, ready_at = NULL, available_at = NULL
  FROM open WHERE s.id = open.id
RETURNING s.id, s.lane, open.status AS was;

-- name: parent_ended
-- A step that has failed is waited for no more by what a new plan is about to replace; under the run's lock.
UPDATE runs_step c SET deps_left = c.deps_left - 1
  FROM runs_stepedge e
 WHERE e.parent_id = %(step_id)s AND c.id = e.child_id AND c.status = 'blocked';

-- name: supersede
-- blocked -> skipped for what the new plan replaces: all that has not started.  Its key is free from now on, and
-- nobody waits for it or is waited for by it; under the run's lock.
WITH old AS (
    SELECT id, key FROM runs_step
     WHERE run_id = %(run_id)s AND kind <> 'plan' AND attempt = 0 AND status = 'blocked'
     ORDER BY id FOR NO KEY UPDATE
), edge AS (
    DELETE FROM runs_stepedge e USING old WHERE e.child_id = old.id
)
UPDATE runs_step s
   SET status = 'skipped', reason = 'superseded', finished_at = clock_timestamp(), key = s.key || %(suffix)s,
       depends_on = ARRAY(SELECT d.key || CASE WHEN EXISTS (SELECT FROM old WHERE old.key = d.key)
                                               THEN %(suffix)s ELSE '' END
                            FROM unnest(s.depends_on) WITH ORDINALITY AS d(key, n) ORDER BY d.n)
  FROM old WHERE s.id = old.id
RETURNING s.id, s.lane, old.key;

-- name: count_replaced
-- How many steps "supersede" would take; under the run's lock.
SELECT count(*) AS steps FROM runs_step WHERE run_id = %(run_id)s AND kind <> 'plan' AND attempt = 0 AND status = 'blocked';

-- name: standing
-- Steps of a run that a new one may depend on; under its lock.
SELECT id, key, status FROM runs_step WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[]);

-- name: add_failure
-- One failure more that an open planning step has to plan around; under the run's lock.
UPDATE runs_step
   SET arguments = jsonb_set(coalesce(arguments, '{}'), '{failures}',
                             coalesce(arguments -> 'failures', '[]') || %(failure)s::jsonb)
 WHERE id = %(step_id)s
RETURNING id;

-- name: unread_replan
-- Has somebody asked for another plan that nobody has begun to make?
SELECT 1 AS found FROM runs_message WHERE run_id = %(run_id)s AND replan AND read_at IS NULL LIMIT 1;

-- name: progress
-- How far a run has come: its steps in plan order, with as much of their outputs as a model may be told.
SELECT key, kind, tool, title, objective, runs_value(workspace_id, arguments) AS arguments, depends_on, on_error,
       if_failed, approval, expires_s, timeout_s, max_attempts, status, reason, attempt, error,
       left(runs_value(workspace_id, output)::text, %(most)s) AS output
  FROM runs_step WHERE run_id = %(run_id)s AND kind <> 'plan' AND caller = '' ORDER BY id;

-- name: calls_of_tool
-- The last calls of a tool in a run that have ended, the newest first, since a person last wanted another plan; ending
-- is what two calls must share to have taught the same.
SELECT s.key, runs_value(s.workspace_id, s.arguments) AS arguments, coalesce(s.error ->> 'code', 'succeeded') AS outcome,
       md5(concat(s.status, ' ', s.output::text, ' ', s.error ->> 'code', ' ', s.error ->> 'message')) AS ending,
       v.planning ->> 'max_repeats' AS max_repeats,
       runs_value(r.workspace_id, r.input) AS input, r.goal
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id JOIN agents_agentversion v ON v.id = r.agent_version_id
 WHERE s.run_id = %(run_id)s AND s.kind = 'tool' AND s.tool = %(tool)s AND s.status IN ('succeeded', 'failed')
   AND s.reason <> 'recorded'
   AND s.finished_at > coalesce((SELECT max(m.at) FROM runs_message m WHERE m.run_id = s.run_id AND m.replan), '-infinity')
 ORDER BY s.finished_at DESC, s.id DESC LIMIT 200;
