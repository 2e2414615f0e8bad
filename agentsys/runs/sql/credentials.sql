-- name: credentials_changed
-- Steps that wait for a credential which is another now than the one that did not do (of one workspace, or of all): it
-- was added, allowed, entered or encrypted anew.  By its revision and not by time: it may have changed between the look of the
-- step and the record that it waits.  And those of which nothing here can tell (a provider's account): by their time.
SELECT s.run_id, s.key FROM runs_step s
 WHERE s.status = 'waiting' AND s.reason = 'credential'
   AND (%(workspace_id)s::uuid IS NULL OR s.workspace_id = %(workspace_id)s::uuid)
   AND (s.available_at <= clock_timestamp()
        OR EXISTS (SELECT 1 FROM jsonb_each_text(s.error -> 'data' -> 'seen') AS seen(name, revision)
                 JOIN accounts_credential c ON c.workspace_id = s.workspace_id AND c.name = seen.name
                WHERE c.revision::text IS DISTINCT FROM seen.revision))
 ORDER BY s.id LIMIT %(limit)s;

-- name: credentials_waited_for
-- How many steps of a workspace wait for each credential, also for those that it has not.
SELECT name, count(*) AS steps FROM runs_step s
 CROSS JOIN LATERAL jsonb_array_elements_text(s.error -> 'data' -> 'credentials') AS name
 WHERE s.status = 'waiting' AND s.reason = 'credential' AND s.workspace_id = %(workspace_id)s
 GROUP BY name;

-- name: waiting_for_credentials
-- The steps of a run that wait for a credential, in id order; under its lock.
SELECT key FROM runs_step WHERE run_id = %(run_id)s AND status = 'waiting' AND reason = 'credential' ORDER BY id FOR NO KEY UPDATE;
