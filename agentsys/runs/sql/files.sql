-- name: put_file
-- A file's content, stored once a workspace, and the run's name for it; by a step only while its claim holds.
-- The step's row is locked (after nothing, before payload and file), so that the lease cannot be taken while
-- this waits for another writer of the same name and then lands after all.  Says what was in the way.
-- What the file was before this step is kept, whatever it writes how often: done again, it starts from there.
WITH held AS MATERIALIZED (
    SELECT s.id FROM runs_step s
     WHERE s.id = %(step_id)s AND s.claim_token = %(token)s::uuid AND s.status = 'running'
       FOR SHARE
), room AS MATERIALIZED (
    SELECT 1 WHERE (SELECT count(*) FROM runs_runfile WHERE run_id = %(run_id)s) < %(max_files)s
                OR EXISTS (SELECT 1 FROM runs_runfile WHERE run_id = %(run_id)s AND name = %(name)s)
), stored AS (
    INSERT INTO runs_payload (workspace_id, sha256, size_bytes, content, touched_at)
    SELECT %(workspace_id)s, %(sha256)s, %(size)s, %(content)s, clock_timestamp() FROM room
     WHERE %(token)s::uuid IS NULL OR EXISTS (SELECT 1 FROM held)
    ON CONFLICT (workspace_id, sha256) DO UPDATE SET touched_at = EXCLUDED.touched_at
    RETURNING id
), written AS (
    INSERT INTO runs_runfile (workspace_id, run_id, name, payload_id, written_by, written_at)
    SELECT %(workspace_id)s, %(run_id)s, %(name)s, stored.id, %(step)s, clock_timestamp() FROM stored
    ON CONFLICT (run_id, name) DO UPDATE
       SET before_id = CASE WHEN runs_runfile.written_by = EXCLUDED.written_by
                            THEN runs_runfile.before_id ELSE runs_runfile.payload_id END,
           payload_id = EXCLUDED.payload_id, written_by = EXCLUDED.written_by, written_at = EXCLUDED.written_at
    RETURNING id
)
SELECT EXISTS (SELECT 1 FROM written) AS written, EXISTS (SELECT 1 FROM room) AS room;
