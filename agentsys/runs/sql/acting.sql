-- A step that acts: it calls, is blocked by its calls, and goes on when all of them have ended.

-- name: calls_so_far
-- What a step that acts has called, in order; of the last ones with what they gave, as much as a model may be told.
SELECT s.key, s.kind, s.tool, s.objective AS said, s.status, s.error, v.arguments, left(v.output, %(most)s) AS output,
       char_length(v.output) AS size, left(s.arguments::text, 80) AS brief
  FROM (SELECT *, row_number() OVER (ORDER BY id DESC) AS age FROM runs_step
         WHERE run_id = %(run_id)s AND caller = %(key)s) s
  LEFT JOIN LATERAL (SELECT runs_value(s.workspace_id, s.arguments) AS arguments,
                            CASE jsonb_typeof(o.value) WHEN 'string' THEN o.value #>> '{}' ELSE o.value::text END AS output
                       FROM runs_value(s.workspace_id, s.output) AS o(value) WHERE s.age <= %(recent)s) v ON true
 ORDER BY s.id;

-- name: wait_for_calls
-- running (or waiting for a budget) -> blocked by calls that have just been inserted; under the run's lock.  It goes on
-- however they end, and with a clean record: a turn is progress.
WITH edge AS (
    INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)
    SELECT workspace_id, run_id, id, %(step_id)s FROM runs_step WHERE id = ANY (%(calls)s::bigint[])
)
UPDATE runs_step s
   SET status = 'blocked', reason = '', error = NULL, kept = NULL, lease_expires_at = NULL, if_failed = 'null', failures = 0,
       crashes = 0, deps_left = cardinality(%(calls)s::bigint[]), depends_on = s.depends_on || %(keys)s::varchar[]
 WHERE s.id = %(step_id)s AND CASE WHEN %(token)s::uuid IS NULL THEN s.status = 'waiting' AND s.reason = 'budget'
                                   ELSE s.status = 'running' AND s.claim_token = %(token)s::uuid END
RETURNING s.*;
