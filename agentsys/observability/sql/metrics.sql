-- name: lanes
-- What each lane has waiting for a slot, ready and under way.  Reads partial indexes of live steps, never history.
SELECT lane,
       count(*) FILTER (WHERE status = 'queued') AS queued,
       count(*) FILTER (WHERE status = 'ready') AS ready,
       count(*) FILTER (WHERE status = 'running') AS running,
       coalesce(extract(epoch FROM clock_timestamp() - min(ready_at) FILTER (WHERE status = 'ready')), 0)::float8
           AS oldest_ready_s
  FROM (SELECT lane, status, ready_at FROM runs_step WHERE status = 'ready'
        UNION ALL
        SELECT lane, status, NULL FROM runs_step WHERE status = 'queued' AND held = ''
        UNION ALL
        SELECT lane, status, NULL FROM runs_step WHERE status = 'running') AS live
 GROUP BY lane;

-- name: live_runs
-- Runs that have not ended, by status: the partial index of live runs.
SELECT status, count(*) AS runs FROM runs_run WHERE finished_at IS NULL GROUP BY status;

-- name: workers
SELECT host, lane, pid, concurrency, cpu_percent, memory_bytes, draining,
       extract(epoch FROM clock_timestamp() - seen_at)::float8 AS seen_s
  FROM infrastructure_worker WHERE seen_at > clock_timestamp() - interval '60 seconds';
