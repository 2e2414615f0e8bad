-- The breaker of a model: after some failures in a row nobody asks it for a while, then one call at a time does.

-- name: breaker
-- How a model that has failed lately stands; no row: nothing is known against it.
SELECT failures, error, open_until IS NOT NULL AS is_open,
       greatest(0, extract(epoch FROM greatest(open_until, probe_until) - clock_timestamp()))::float8 AS left_s
  FROM runs_breaker WHERE model = %(model)s;

-- name: breaker_probe
-- The one call that may ask an open model again; no row: it is too early, or another does.
UPDATE runs_breaker SET probe_until = clock_timestamp() + make_interval(secs => %(for_s)s)
 WHERE model = %(model)s AND open_until <= clock_timestamp()
   AND (probe_until IS NULL OR probe_until <= clock_timestamp())
RETURNING model;

-- name: breaker_failed
-- One failure more: with the %(most)s-th in a row it opens, twice as long for each one after that.
INSERT INTO runs_breaker AS b (model, failures, error, failed_at) VALUES (%(model)s, 1, %(error)s, clock_timestamp())
ON CONFLICT (model) DO UPDATE
   SET failures = b.failures + 1, error = EXCLUDED.error, failed_at = clock_timestamp(), probe_until = NULL,
       open_until = CASE WHEN b.failures + 1 >= %(most)s THEN clock_timestamp() + make_interval(
                             secs => least(%(longest_s)s, %(first_s)s * 2 ^ least(20, b.failures + 1 - %(most)s))) END;

-- name: breaker_closed
-- It has answered.
DELETE FROM runs_breaker WHERE model = %(model)s;

-- name: model_room
-- Let one call through within what an account may have a minute, or say when it may come; see migration 0024.
SELECT id, wait_s FROM runs_model_room(%(account)s, %(requests)s::bigint, %(tokens)s::bigint, %(wanted)s::bigint, %(step_id)s::bigint);

-- name: model_used
-- What a call that was let through has used, of what it might have.
UPDATE runs_modelrate SET tokens = %(tokens)s WHERE id = %(id)s;
