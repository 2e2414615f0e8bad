-- What models were asked and what they answered.

-- name: chain_of_calls
-- The last call of a step with those that are to be read before it, in order; of one call with %(id)s.
WITH RECURSIVE chain AS (
    (SELECT c.id, c.base_id, c.kept, c.parts, c.depth FROM runs_modelcall c
      WHERE c.step_id = %(step_id)s AND (%(id)s::bigint IS NULL OR c.id = %(id)s::bigint)
      ORDER BY c.attempt DESC, c.number DESC LIMIT 1)
    UNION ALL
    SELECT c.id, c.base_id, c.kept, c.parts, c.depth FROM chain JOIN runs_modelcall c ON c.id = chain.base_id
)
SELECT * FROM chain ORDER BY depth;

-- name: record_call
-- The call, with the contents that it is the first to have, and the run's use of them.  Contents are locked in the order
-- of their names.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%(sha256)s::text[], %(contents)s::bytea[]) AS g(sha256, content) ORDER BY 1
), stored AS (
    INSERT INTO runs_payload (workspace_id, sha256, size_bytes, content, touched_at)
    SELECT %(workspace_id)s, sha256, length(content), content, clock_timestamp() FROM given
    ON CONFLICT (workspace_id, sha256) DO UPDATE SET touched_at = EXCLUDED.touched_at
    RETURNING id, workspace_id
), used AS (
    INSERT INTO runs_payloaduse (workspace_id, run_id, payload_id)
    SELECT r.workspace_id, r.id, stored.id
      FROM stored JOIN runs_run r ON r.id = %(run_id)s AND r.workspace_id = stored.workspace_id
    ON CONFLICT (run_id, payload_id) DO NOTHING
)
INSERT INTO runs_modelcall (workspace_id, run_id, step_id, attempt, number, purpose, model, digest, base_id, kept, parts, depth,
                            max_output_tokens, answer, cached, error, input_tokens, output_tokens, cost_usd, priced_by, took_s)
SELECT r.workspace_id, r.id, %(step_id)s, %(attempt)s, %(number)s, %(purpose)s, %(model)s, %(digest)s, %(base_id)s, %(kept)s,
       %(parts)s::varchar[], %(depth)s, %(max_output_tokens)s, %(answer)s, %(cached)s, %(error)s, %(input_tokens)s,
       %(output_tokens)s, %(cost_usd)s, %(priced_by)s, %(took_s)s
  FROM runs_run r WHERE r.id = %(run_id)s AND r.workspace_id = %(workspace_id)s
ON CONFLICT (step_id, attempt, number) DO NOTHING;

-- name: contents
-- Payloads by their names.
SELECT sha256, content FROM runs_payload WHERE workspace_id = %(workspace_id)s AND sha256 = ANY (%(sha256)s::text[]);

-- name: answered_before
-- What the same model has answered to the same within so many seconds.
SELECT p.content FROM runs_modelcall c
  JOIN runs_payload p ON p.workspace_id = c.workspace_id AND p.sha256 = c.answer
 WHERE c.workspace_id = %(workspace_id)s AND c.digest = %(digest)s AND NOT c.cached AND c.answer <> ''
   AND c.at > clock_timestamp() - make_interval(secs => %(within_s)s)
 ORDER BY c.id DESC LIMIT 1;
