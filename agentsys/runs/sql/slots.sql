-- Slots: how many steps of a lane a workspace may have ready or running.  Whoever makes a step ready takes a slot of the
-- row runs_laneslot, under its lock; whoever lets one leave ready and running gives it back in the same transaction.
-- Lock order: run -> steps -> budget -> slot: nothing is waited for with a slot in hand, and the statements here that go
-- from a slot to steps skip what is locked.
-- An update after a lock in the same statement writes what was locked: PostgreSQL asks a CHECK first of the row as the
-- statement's snapshot has it, which may be older, and only then looks again.
--
-- fair_key of a ready step is its place in the lane's virtual clock: a workspace's steps stand 10 s (by its weight)
-- apart, from the lane's level on, which is that of the first ready steps; so one that has little waiting is always
-- near the front, whatever others have.  Priority moves a step by 30 s a unit: 3 places among the ready.
-- fair_key of a queued step is the time since when it waits, less the same 30 s a unit: the order of admission.

-- name: admit
-- queued -> ready for as many of a workspace and lane as there are free slots.  Waits for the slot's row only, with
-- nothing held.  "hungry" says that more were there: whoever gives a slot back then looks again.
WITH slot AS MATERIALIZED (
    SELECT *, greatest(0, least(lim - used, %(limit)s)) AS free FROM runs_laneslot
     WHERE workspace_id = %(workspace_id)s AND lane = %(lane)s FOR NO KEY UPDATE
), found AS MATERIALIZED (
    SELECT id, run_id, fair_key FROM runs_step
     WHERE workspace_id = %(workspace_id)s AND lane = %(lane)s AND status = 'queued' AND held = ''
     ORDER BY fair_key LIMIT (SELECT coalesce(max(free) + 1, 0) FROM slot) FOR NO KEY UPDATE SKIP LOCKED
), placed AS MATERIALIZED (
    SELECT id, run_id, row_number() OVER (ORDER BY fair_key, id) AS n FROM found
), start AS MATERIALIZED (
    SELECT slot.*, 10000000 / weight AS spacing,
           least(greatest(next_key, level.key), level.key + used * (10000000 / weight)) AS key
      FROM slot CROSS JOIN (
           SELECT coalesce(min(tag), extract(epoch FROM clock_timestamp()) * 1e6) AS key
             FROM (SELECT s.fair_key + (SELECT priority FROM runs_run WHERE id = s.run_id) * 30000000 AS tag FROM runs_step s
                    WHERE s.status = 'ready' AND s.lane = %(lane)s ORDER BY s.fair_key LIMIT 8) first) level
), moved AS (
    UPDATE runs_step s
       SET status = 'ready', ready_at = clock_timestamp(),
           fair_key = (start.key + placed.n * start.spacing)::bigint
                    - (SELECT priority FROM runs_run WHERE id = placed.run_id) * 30000000
      FROM placed, start
     WHERE s.id = placed.id AND s.id = ANY (ARRAY(SELECT id FROM placed)) AND placed.n <= start.free
       AND s.status = 'queued' AND s.held = ''
    RETURNING s.id
), n AS MATERIALIZED (
    SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM found) AS found
), took AS (
    UPDATE runs_laneslot l
       SET used = start.used + n.moved, lim = start.lim, over = start.over, hungry = n.found > start.free,
           next_key = CASE WHEN n.moved > 0 THEN (start.key + n.moved * start.spacing)::bigint ELSE l.next_key END
      FROM start, n
     WHERE l.id = start.id AND (n.moved > 0 OR start.hungry <> (n.found > start.free))
)
SELECT n.moved FROM start, n;

-- name: make_slot
INSERT INTO runs_laneslot (workspace_id, lane, lim, used, over, weight, next_key, hungry, custom)
SELECT id, %(lane)s, %(lim)s, 0, 0, 1, 0, false, false FROM accounts_workspace WHERE id = %(workspace_id)s
ON CONFLICT (workspace_id, lane) DO NOTHING;

-- name: set_slot
-- A person's limit and weight, each left as it is where it is null.  What holds a slot beyond the new limit is "over".
WITH slot AS MATERIALIZED (
    SELECT * FROM runs_laneslot WHERE workspace_id = %(workspace_id)s AND lane = %(lane)s FOR NO KEY UPDATE
)
UPDATE runs_laneslot l
   SET used = slot.used, lim = coalesce(%(lim)s::int, slot.lim), weight = coalesce(%(weight)s::float8, slot.weight),
       over = greatest(0, slot.used - coalesce(%(lim)s::int, slot.lim)), custom = true
  FROM slot
 WHERE l.id = slot.id
RETURNING l.lim, l.weight, l.used;

-- name: set_default_slots
-- The installation's limit for slots that nobody has set and that have another one.
WITH slot AS MATERIALIZED (
    SELECT * FROM runs_laneslot WHERE NOT custom AND lim <> %(lim)s
     ORDER BY workspace_id, lane LIMIT %(batch)s FOR NO KEY UPDATE
)
UPDATE runs_laneslot l
   SET used = slot.used, lim = %(lim)s, over = greatest(0, slot.used - %(lim)s), hungry = true
  FROM slot
 WHERE l.id = slot.id
RETURNING l.id;

-- name: free_slots
-- Give back what a change of one run has left; after its steps, in the order of the lanes.  A lane comes back if others
-- of the workspace may wait for what was freed.  "over" is what was running when the limit was lowered; it only falls.
WITH freed AS MATERIALIZED (
    SELECT * FROM unnest(%(lanes)s::text[], %(counts)s::int[]) AS f(lane, n)
), slot AS MATERIALIZED (
    SELECT * FROM runs_laneslot
     WHERE workspace_id = %(workspace_id)s AND lane = ANY (%(lanes)s::text[]) ORDER BY lane FOR NO KEY UPDATE
)
UPDATE runs_laneslot l
   SET used = greatest(0, slot.used - freed.n), lim = slot.lim, over = least(slot.over, greatest(0, slot.used - freed.n - slot.lim))
  FROM freed, slot
 WHERE l.id = slot.id AND l.lane = freed.lane AND l.workspace_id = %(workspace_id)s
RETURNING l.lane, l.hungry AND l.used < l.lim AS hungry;

-- name: demote
-- ready -> queued for what is over a lowered limit and has not started, the last first.  What a claim has in its hands
-- this moment is running or comes by again.
WITH slot AS MATERIALIZED (
    SELECT *, greatest(0, used - lim) AS many FROM runs_laneslot
     WHERE workspace_id = %(workspace_id)s AND lane = %(lane)s FOR NO KEY UPDATE
), late AS MATERIALIZED (
    SELECT id, run_id FROM runs_step
     WHERE status = 'ready' AND lane = %(lane)s AND workspace_id = %(workspace_id)s
     ORDER BY fair_key DESC LIMIT (SELECT coalesce(max(many), 0) FROM slot) FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs_step s
       SET status = 'queued', ready_at = NULL,
           fair_key = (extract(epoch FROM s.ready_at) * 1e6)::bigint
                    - (SELECT priority FROM runs_run WHERE id = late.run_id) * 30000000
      FROM late WHERE s.id = late.id AND s.id = ANY (ARRAY(SELECT id FROM late)) AND s.status = 'ready'
    RETURNING s.id
)
UPDATE runs_laneslot l
   SET used = slot.used - n.moved, lim = slot.lim, over = greatest(0, slot.used - n.moved - slot.lim),
       hungry = l.hungry OR n.moved > 0
  FROM slot, (SELECT count(*) AS moved FROM moved) n
 WHERE l.id = slot.id
RETURNING n.moved;

-- name: lanes_to_admit
-- Workspaces and lanes where a step is queued and a slot is free (or there is none yet): the index of queued steps is
-- read from one pair to the next, not through a backlog.
WITH RECURSIVE pair AS (
    (SELECT workspace_id, lane FROM runs_step WHERE status = 'queued' AND held = ''
      ORDER BY workspace_id, lane LIMIT 1)
    UNION ALL
    SELECT next.workspace_id, next.lane
      FROM pair CROSS JOIN LATERAL (
           SELECT workspace_id, lane FROM runs_step
            WHERE status = 'queued' AND held = '' AND (workspace_id, lane) > (pair.workspace_id, pair.lane)
            ORDER BY workspace_id, lane LIMIT 1) next
)
SELECT pair.workspace_id, pair.lane
  FROM pair LEFT JOIN runs_laneslot l ON l.workspace_id = pair.workspace_id AND l.lane = pair.lane
 WHERE l.id IS NULL OR l.used < l.lim LIMIT %(limit)s;

-- name: lanes_over
SELECT workspace_id, lane FROM runs_laneslot WHERE used > lim;

-- name: slots_off
-- Slots whose count is not what is ready and running, in one snapshot.
WITH n AS (
    SELECT workspace_id, lane, count(*) AS used FROM (
        SELECT workspace_id, lane FROM runs_step WHERE status = 'ready'
        UNION ALL
        SELECT workspace_id, lane FROM runs_step WHERE lease_expires_at IS NOT NULL) holder
     GROUP BY workspace_id, lane
)
SELECT coalesce(l.workspace_id, n.workspace_id) AS workspace_id, coalesce(l.lane, n.lane) AS lane
  FROM runs_laneslot l FULL JOIN n ON n.workspace_id = l.workspace_id AND n.lane = l.lane
 WHERE coalesce(l.used, 0) <> coalesce(n.used, 0) LIMIT %(limit)s;

-- name: lock_slot
SELECT id, used FROM runs_laneslot WHERE workspace_id = %(workspace_id)s AND lane = %(lane)s FOR NO KEY UPDATE;

-- name: recount_slot
-- Under its lock, by a snapshot of its own: nobody else takes or gives back meanwhile.
UPDATE runs_laneslot l SET used = n.used, over = greatest(0, n.used - l.lim), hungry = true
  FROM (SELECT count(*) AS used FROM (
            SELECT FROM runs_step WHERE status = 'ready' AND lane = %(lane)s AND workspace_id = %(workspace_id)s
            UNION ALL
            SELECT FROM runs_step
             WHERE lease_expires_at IS NOT NULL AND lane = %(lane)s AND workspace_id = %(workspace_id)s) holder) n
 WHERE l.workspace_id = %(workspace_id)s AND l.lane = %(lane)s AND l.used <> n.used
RETURNING l.used;
