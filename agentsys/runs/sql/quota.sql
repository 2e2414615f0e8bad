-- name: take_quota
-- So many runs off what a workspace may submit; what it may grows with the time up to a minute's worth.  The row's lock
-- comes before its condition, so not one too many is let through; no row: all is used up.
INSERT INTO runs_submissionquota AS q (workspace_id, left_over, at)
VALUES (%(workspace_id)s, %(rate)s::float8 - %(count)s::float8, clock_timestamp())
ON CONFLICT (workspace_id) DO UPDATE
   SET left_over = least(%(rate)s, q.left_over + greatest(0, extract(epoch FROM clock_timestamp() - q.at)) * %(rate)s / 60) - %(count)s,
       at = clock_timestamp()
 WHERE least(%(rate)s, q.left_over + greatest(0, extract(epoch FROM clock_timestamp() - q.at)) * %(rate)s / 60) >= %(count)s
RETURNING 1 AS taken;

-- name: quota_left
SELECT left_over + greatest(0, extract(epoch FROM clock_timestamp() - at)) * %(rate)s / 60 AS left_over
  FROM runs_submissionquota WHERE workspace_id = %(workspace_id)s;
