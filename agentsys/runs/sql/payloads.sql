-- name: put_payload
-- Content, stored once a workspace, and a run's use of it, which keeps it.  Until there is a use the touch keeps it
-- (see spent_payloads).  Locks the content's row, which nobody holds while waiting for another lock.
WITH stored AS (
    INSERT INTO runs_payload (workspace_id, sha256, size_bytes, content, touched_at)
    VALUES (%(workspace_id)s, %(sha256)s, %(size)s, %(content)s, clock_timestamp())
    ON CONFLICT (workspace_id, sha256) DO UPDATE SET touched_at = EXCLUDED.touched_at
    RETURNING id, workspace_id
)
INSERT INTO runs_payloaduse (workspace_id, run_id, payload_id)
SELECT r.workspace_id, r.id, stored.id
  FROM stored JOIN runs_run r ON r.id = %(run_id)s::uuid AND r.workspace_id = stored.workspace_id
ON CONFLICT (run_id, payload_id) DO NOTHING;

-- name: use_payloads
-- Runs' uses of content that was put before them, in the transaction that writes them.
INSERT INTO runs_payloaduse (workspace_id, run_id, payload_id)
SELECT DISTINCT p.workspace_id, u.run_id, p.id
  FROM unnest(%(runs)s::uuid[], %(sha256)s::text[]) AS u(run_id, sha256)
  JOIN runs_payload p ON p.workspace_id = %(workspace_id)s AND p.sha256 = u.sha256
ON CONFLICT (run_id, payload_id) DO NOTHING;

-- name: payload_value
-- What a reference stands for; a reference of another workspace's stands for nothing.
SELECT runs_value(%(workspace_id)s::uuid, %(reference)s::jsonb) AS value;
