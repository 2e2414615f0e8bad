-- name: rollup_lock
-- One process at a time counts; the lock ends with the transaction.
SELECT pg_try_advisory_xact_lock(hashtext('agentsys.rollup')) AS mine;

-- name: rollup_batch
-- What has ended since the cursor, counted by kind, outcome and duration.  Reads each event once, by its
-- key, and nothing of history.  Events younger than the margin are left for the next time: an id below
-- theirs may belong to a transaction that has not committed yet.
WITH batch AS MATERIALIZED (
    SELECT id, run_id, type, step, at FROM runs_event WHERE id > %(cursor)s ORDER BY id LIMIT %(limit)s
), horizon AS (
    SELECT coalesce(min(id) FILTER (WHERE at > clock_timestamp() - make_interval(secs => %(margin_s)s)) - 1, max(id)) AS id
      FROM batch
), ended AS (
    SELECT 'run' AS kind, b.type, extract(epoch FROM r.finished_at - r.created_at)::float8 AS seconds
      FROM batch b JOIN horizon ON b.id <= horizon.id JOIN runs_run r ON r.id = b.run_id
     WHERE b.type IN ('run.succeeded', 'run.failed', 'run.cancelled')
    UNION ALL
    SELECT s.kind, b.type,
           CASE WHEN b.type IN ('step.succeeded', 'step.failed')
                THEN extract(epoch FROM s.finished_at - s.claimed_at)::float8 END
      FROM batch b JOIN horizon ON b.id <= horizon.id
           JOIN runs_step s ON s.run_id = b.run_id AND s.key = b.step AND s.reason <> 'recorded'
     WHERE b.type IN ('step.succeeded', 'step.failed', 'step.retrying', 'step.released', 'step.unknown', 'step.skipped', 'step.cancelled')
), counted AS (
    SELECT kind, split_part(type, '.', 2) AS outcome, width_bucket(seconds, %(bounds_s)s::float8[]) AS bucket,
           count(*) AS count, coalesce(sum(seconds), 0) AS seconds
      FROM ended GROUP BY 1, 2, 3
)
SELECT horizon.id AS horizon, counted.* FROM horizon LEFT JOIN counted ON true;
