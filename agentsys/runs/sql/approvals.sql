-- name: approval_terms
-- How long a person has: as the step says, or its agent's version.
SELECT s.expires_s, v.approvals
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id JOIN agents_agentversion v ON v.id = r.agent_version_id
 WHERE s.id = %(step_id)s;

-- name: use_approval
-- May this call be made with exactly these arguments?  The row keeps which claim was told so.  No lock of the
-- run: a decision of a step that runs does not change any more.  No row: nobody has approved it, or fenced.
UPDATE runs_approval a SET claim_token = %(token)s::uuid
  FROM runs_step s
 WHERE a.step_id = %(step_id)s AND a.digest = %(digest)s AND a.kind = 'approval' AND a.decision = 'approve'
   AND s.id = a.step_id AND s.claim_token = %(token)s::uuid AND s.status = 'running'
RETURNING a.id;

-- name: insert_question
-- After running -> waiting, in its transaction.  It ends when the step's wait does.
INSERT INTO runs_approval (id, workspace_id, run_id, step_id, kind, arguments, digest, tainted, decision, created_at, expires_at)
SELECT %(id)s, s.workspace_id, s.run_id, s.id, s.reason, %(arguments)s::jsonb, %(digest)s, %(tainted)s::jsonb, '', clock_timestamp(),
       s.available_at
  FROM runs_step s WHERE s.id = %(step_id)s
RETURNING id, expires_at;

-- name: decide
-- open -> decided, once; under the run's lock.  After its time only expiry decides, and never before.
UPDATE runs_approval
   SET decision = %(decision)s::text, decided_by_id = %(by_id)s, answer = %(answer)s::jsonb, decided_at = clock_timestamp()
 WHERE id = %(id)s AND decision = '' AND (expires_at IS NOT NULL AND expires_at <= clock_timestamp()) = (%(decision)s::text = 'expired')
RETURNING id;

-- name: insert_edited
-- The call as somebody wants it, approved with that.  The same call may have been approved before.
INSERT INTO runs_approval (id, workspace_id, run_id, step_id, kind, arguments, digest, tainted, decision, decided_by_id, created_at,
    expires_at, decided_at, replaces_id)
SELECT %(id)s, workspace_id, run_id, step_id, kind, %(arguments)s::jsonb, %(digest)s, a.tainted, 'approve', %(by_id)s, decided_at,
    expires_at, decided_at, a.id
  FROM runs_approval a WHERE a.id = %(replaces)s
ON CONFLICT (step_id, digest) DO NOTHING;

-- name: leave_asked
-- waiting -> to, by a decision (or for want of one); under the run's lock, after "decide".
UPDATE runs_step s
   SET status = %(to)s::text, reason = '', output = %(output)s::jsonb, error = %(error)s::jsonb,
       arguments = coalesce(%(arguments)s::jsonb, s.arguments), available_at = NULL, claim_token = NULL,
       fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000,
       held = CASE WHEN %(to)s::text = 'queued' THEN %(held)s ELSE '' END,
       finished_at = CASE WHEN %(to)s::text = 'queued' THEN NULL ELSE clock_timestamp() END
 WHERE s.id = %(step_id)s AND s.status = 'waiting' AND s.reason = %(kind)s
RETURNING s.*;

-- name: waiting_reason
-- What a run waits for that has nothing to do: what the first of its steps does.
SELECT reason FROM runs_step WHERE run_id = %(run_id)s AND status = 'waiting' ORDER BY id LIMIT 1;

-- name: expired_questions
-- Steps whose person's time is over, by the index of timers.
SELECT a.id, a.run_id FROM runs_step s JOIN runs_approval a ON a.step_id = s.id AND a.decision = ''
 WHERE s.status = 'waiting' AND s.available_at <= clock_timestamp()
 ORDER BY s.available_at LIMIT %(limit)s;
