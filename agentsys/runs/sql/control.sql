-- name: hold_ready
-- ready -> queued for all that a claim could take; in id order under the run's lock.  Sleepers are locked, too:
-- the one sweep that moves steps without their run's lock may be about to make them ready (see hold_woken).
WITH open AS (
    SELECT id, status FROM runs_step
     WHERE run_id = %(run_id)s AND status IN ('ready', 'sleeping')
     ORDER BY id FOR NO KEY UPDATE
)
UPDATE runs_step s SET status = 'queued', ready_at = NULL
  FROM open WHERE s.id = open.id AND open.status = 'ready';

-- name: release_held
-- queued -> ready for what a pause held back; in id order under the run's lock.
WITH held AS (
    SELECT id FROM runs_step WHERE run_id = %(run_id)s AND status = 'queued' ORDER BY id FOR NO KEY UPDATE
)
UPDATE runs_step s
   SET status = 'ready', ready_at = clock_timestamp(),
       fair_key = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %(priority)s * 30000000
  FROM held WHERE s.id = held.id
RETURNING s.lane;

-- name: waits_for_its_start
-- Does a run that has not started wait for its start_at?
SELECT 1 AS found FROM runs_step WHERE run_id = %(run_id)s AND status = 'sleeping' AND reason = 'start_at' LIMIT 1;
