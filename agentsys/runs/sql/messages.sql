-- name: insert_message
-- The next message of a run, under its lock; none when it has as many as it may.
INSERT INTO runs_message (workspace_id, run_id, seq, text, by, at, read_by, replan)
SELECT %(workspace_id)s, %(run_id)s, n.seq, %(text)s, %(by)s, clock_timestamp(), '', %(replan)s
  FROM (SELECT coalesce(max(seq), 0) + 1 AS seq FROM runs_message WHERE run_id = %(run_id)s) n
 WHERE n.seq <= %(most)s
RETURNING id, seq;

-- name: messages
-- All that a run was told, in order.
SELECT seq, text, by, replan, read_by, read_at IS NULL AS unread FROM runs_message WHERE run_id = %(run_id)s ORDER BY seq;

-- name: mark_read
-- unread -> read by a step that its claim still holds; under the run's lock.  One that asks for another plan is read
-- by a planning step: until then it is not heard.
UPDATE runs_message m SET read_at = clock_timestamp(), read_by = %(key)s
  FROM runs_step s
 WHERE m.run_id = %(run_id)s AND m.read_at IS NULL
   AND s.id = %(step_id)s AND s.claim_token = %(token)s AND s.status = 'running' AND (NOT m.replan OR s.kind = 'plan')
RETURNING m.seq;
