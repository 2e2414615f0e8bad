-- name: registered_pids
-- The processes of workers that have told lately that they work.  Reads without a lock.
SELECT pid FROM infrastructure_worker WHERE seen_at > clock_timestamp() - interval '1 minute'
