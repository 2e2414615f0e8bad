-- Budgets are the last locks of a transaction: those of steps first, then those of tokens and cost, each in id order.
-- An UPDATE meets the row of its snapshot first, and its CHECKs judge that one: so whatever they read is set from the
-- row as it was locked, the limit too.
-- What a call counts on: the budgets of its run, of the runs above it that wait for it, of its agent, its workspace.

-- name: reserve
-- Before a model call: room for it in every budget that it counts on, or in none; one statement, one commit.  By the
-- step's lock it comes before or after whoever takes the claim away, so that nothing stays reserved for the dead.
-- An earlier call of the same claim, the "call"-th, is settled along, with what it has used ("used"; all that was
-- reserved where it is "unsure"); should the answer be lost, "settle" knows by "call" that this was done.  The output is
-- as long as fits, between "least" and "most" tokens.  Amounts are worked out from the budgets' rows as they were locked.
WITH RECURSIVE line AS (
    SELECT id, CASE WHEN parent_step IS NOT NULL THEN parent_run_id END AS above FROM runs_run WHERE id = %(run_id)s
    UNION ALL
    SELECT r.id, CASE WHEN r.parent_step IS NOT NULL THEN r.parent_run_id END FROM line JOIN runs_run r ON r.id = line.above
), held AS MATERIALIZED (
    SELECT 1 FROM runs_step WHERE id = %(step_id)s AND claim_token = %(token)s::uuid AND status = 'running' FOR SHARE
), counted AS (
    SELECT b.id FROM line JOIN runs_budget b ON b.run_id = line.id AND b.kind <> 'steps'
    UNION ALL
    SELECT b.id FROM runs_budget b
     WHERE b.workspace_id = %(workspace_id)s AND b.run_id IS NULL
       AND (b.agent_id IS NULL OR b.agent_id = (SELECT v.agent_id FROM runs_run r
             JOIN agents_agentversion v ON v.id = r.agent_version_id WHERE r.id = %(run_id)s))
), mine AS MATERIALIZED (
    SELECT * FROM runs_budget b
     WHERE EXISTS (SELECT FROM held) AND b.id = ANY (ARRAY(SELECT id FROM counted))
     ORDER BY b.id FOR NO KEY UPDATE
), asked AS (
    SELECT m.*, coalesce(v.amount, 0) AS before,
           CASE WHEN %(unsure)s::boolean THEN coalesce(v.amount, 0)
                WHEN m.kind = 'tokens' THEN %(tokens)s::bigint ELSE %(micros)s::bigint END AS used,
           CASE m.kind WHEN 'tokens' THEN %(input_tokens)s::numeric ELSE %(input_micros)s::numeric END AS input,
           CASE m.kind WHEN 'tokens' THEN 1 ELSE %(output_micros)s::numeric END AS each
      FROM mine m LEFT JOIN runs_reservation v ON v.budget_id = m.id AND v.claim_token = %(token)s::uuid
), room AS (
    SELECT *, lim - spent - charge - reserved + before AS free
      FROM (SELECT *, least(used, lim - spent - reserved + before) AS charge FROM asked) a
), fit AS (
    SELECT least(%(most)s::bigint, min(CASE WHEN free < input THEN -1 WHEN each = 0 THEN %(most)s::bigint
                                            ELSE least(%(most)s::bigint, floor((free - input) / each)) END))::bigint AS output
      FROM room
), moved AS (
    UPDATE runs_budget b
       SET lim = room.lim, spent = room.spent + room.charge, over = room.over + room.used - room.charge,
           reserved = room.reserved - room.before + ceil(room.input + fit.output * room.each)
      FROM room, fit
     WHERE b.id = room.id AND fit.output >= %(least)s::bigint
    RETURNING b.id, room.charge, ceil(room.input + fit.output * room.each)::bigint AS amount
), kept AS (
    INSERT INTO runs_reservation AS v (budget_id, run_id, step_id, claim_token, call, amount, settled, at)
    SELECT id, %(run_id)s, %(step_id)s, %(token)s::uuid, %(call)s + 1, amount, charge, clock_timestamp() FROM moved
    ON CONFLICT (claim_token, budget_id)
    DO UPDATE SET call = EXCLUDED.call, amount = EXCLUDED.amount, settled = v.settled + EXCLUDED.settled
)
SELECT EXISTS (SELECT FROM held) AS ours, fit.output, room.id, room.run_id, room.agent_id, room.kind, room.lim, room.spent,
       room.reserved, room.free, ceil(room.input + %(least)s::bigint * room.each)::bigint AS needs,
       ceil(room.input + %(most)s::bigint * room.each)::bigint AS wants
  FROM fit LEFT JOIN room ON true ORDER BY room.id;

-- name: settle
-- What a claim that has ended has used, in the transaction that ends it: it holds nothing any more.  "unsure": nobody
-- knows, so all that was reserved is taken for used.  What is reserved for a call after the "call"-th was for none that
-- was made.  What was used beyond the limit is no part of what is spent.
-- Answers the budgets of which four fifths are used up now, and of which nobody has been told that.
WITH mine AS MATERIALIZED (
    SELECT b.*, v.id AS reservation, v.amount, v.call > %(call)s AS not_made
      FROM runs_reservation v JOIN runs_budget b ON b.id = v.budget_id
     WHERE v.claim_token = %(token)s::uuid AND v.settled_at IS NULL
     ORDER BY b.id FOR NO KEY UPDATE OF b
), charged AS (
    SELECT *, least(used, lim - spent - reserved + amount) AS charge
      FROM (SELECT *, CASE WHEN not_made THEN 0 WHEN %(unsure)s::boolean THEN amount WHEN kind = 'tokens' THEN %(tokens)s::bigint
                           ELSE %(micros)s::bigint END AS used FROM mine) m
), done AS (
    UPDATE runs_reservation v SET amount = 0, settled = v.settled + c.charge, settled_at = clock_timestamp()
      FROM charged c WHERE v.id = c.reservation
), moved AS (
    UPDATE runs_budget b
       SET lim = c.lim, spent = c.spent + c.charge, reserved = c.reserved - c.amount, over = c.over + c.used - c.charge,
           warned = c.warned OR (c.spent + c.charge) * 5 >= c.lim * 4
      FROM charged c WHERE b.id = c.id
    RETURNING b.run_id, b.agent_id, b.kind, b.lim, b.spent, b.warned AND NOT c.warned AS warn
)
SELECT run_id, agent_id, kind, lim, spent FROM moved WHERE warn ORDER BY kind, run_id, agent_id;

-- name: charge_steps
-- Room for so many more steps in the budgets of a run and of the runs above it that wait for it, or in none; a number
-- below 0 gives back.  Under the run's lock; or with a run that is being made ("above": its own are counted already,
-- and there is nowhere to write a warning).
WITH RECURSIVE line AS (
    SELECT id, CASE WHEN parent_step IS NOT NULL THEN parent_run_id END AS above FROM runs_run WHERE id = %(run_id)s
    UNION ALL
    SELECT r.id, CASE WHEN r.parent_step IS NOT NULL THEN r.parent_run_id END FROM line JOIN runs_run r ON r.id = line.above
), mine AS MATERIALIZED (
    SELECT * FROM runs_budget b
     WHERE b.run_id = ANY (ARRAY(SELECT id FROM line)) AND b.kind = 'steps' AND NOT (%(above)s AND b.run_id = %(run_id)s)
     ORDER BY b.id FOR NO KEY UPDATE
), fit AS (
    SELECT bool_and(spent + %(steps)s::int <= lim) AS fits FROM mine
), moved AS (
    UPDATE runs_budget b
       SET lim = mine.lim, spent = mine.spent + %(steps)s::int, reserved = mine.reserved,
           warned = mine.warned OR (NOT %(above)s AND (mine.spent + %(steps)s::int) * 5 >= mine.lim * 4)
      FROM mine, fit WHERE b.id = mine.id AND fit.fits
    RETURNING b.id, b.warned AND NOT mine.warned AS warn
)
SELECT fit.fits, mine.id, mine.run_id, mine.agent_id, mine.kind, mine.lim, mine.spent, mine.reserved,
       mine.lim - mine.spent AS free, %(steps)s::bigint AS needs, %(steps)s::bigint AS wants, coalesce(moved.warn, false) AS warn
  FROM fit CROSS JOIN mine LEFT JOIN moved ON moved.id = mine.id ORDER BY mine.id;

-- name: keep_plan
-- running -> waiting(budget) has just been done for a step that has planned more steps than find room.
UPDATE runs_step SET kept = %(kept)s::jsonb WHERE id = %(step_id)s AND status = 'waiting' AND reason = 'budget' RETURNING id;

-- name: parked
-- A run's steps that wait for a budget, in id order; under the run's lock.
SELECT id, key, lane, attempt, arguments, kept FROM runs_step
 WHERE run_id = %(run_id)s AND status = 'waiting' AND reason = 'budget' ORDER BY id FOR NO KEY UPDATE;

-- name: plan_found_room
-- waiting(budget) -> succeeded for a step whose plan is inserted now; under the run's lock.
UPDATE runs_step SET status = 'succeeded', reason = '', kept = NULL, error = NULL, finished_at = clock_timestamp()
 WHERE id = %(step_id)s AND status = 'waiting' AND reason = 'budget' AND kept IS NOT NULL
RETURNING id;

-- name: insert_budgets
-- Of runs that have just been inserted, in their transaction; apart from that statement, for most have none.
INSERT INTO runs_budget (workspace_id, run_id, kind, lim, spent, reserved, warned)
SELECT r.workspace_id, r.id, CASE l.key WHEN 'cost_usd' THEN 'cost_micros' ELSE l.key END,
       floor(CASE l.key WHEN 'cost_usd' THEN 1000000 ELSE 1 END * l.value::numeric)::bigint,
       CASE l.key WHEN 'steps' THEN n.steps ELSE 0 END, 0, l.key = 'steps' AND n.steps * 5 >= l.value::numeric * 4
  FROM runs_run r CROSS JOIN jsonb_each_text(r.limits) AS l(key, value)
 CROSS JOIN LATERAL (SELECT count(*) AS steps FROM runs_step s WHERE s.run_id = r.id AND s.kind <> 'plan') n
 WHERE r.id = ANY(%(runs)s::uuid[]) AND l.key IN ('steps', 'tokens', 'cost_usd');

-- name: set_run_limit
-- The limit of a run; under its lock.  No row: it has none of this kind, or more than that is spent and reserved.
UPDATE runs_budget SET lim = %(lim)s, warned = spent * 5 >= %(lim)s::bigint * 4
 WHERE run_id = %(run_id)s AND kind = %(kind)s AND spent + reserved <= %(lim)s::bigint
RETURNING id;

-- name: set_limit
-- The limit of a workspace, or of an agent of it.  No row: more than that is spent and reserved.
INSERT INTO runs_budget AS b (workspace_id, agent_id, kind, lim, spent, reserved)
VALUES (%(workspace_id)s, %(agent_id)s::uuid, %(kind)s, %(lim)s::bigint, 0, 0)
ON CONFLICT (workspace_id, run_id, agent_id, kind)
DO UPDATE SET lim = EXCLUDED.lim, warned = b.spent * 5 >= EXCLUDED.lim * 4
    WHERE b.spent + b.reserved <= EXCLUDED.lim
RETURNING b.id;

-- name: drop_limit
-- With what was reserved and settled.
DELETE FROM runs_budget
 WHERE workspace_id = %(workspace_id)s AND run_id IS NULL AND agent_id IS NOT DISTINCT FROM %(agent_id)s::uuid AND kind = %(kind)s;

-- name: budgets_of_run
-- Every budget that a run's calls count on, the run's own first.
WITH RECURSIVE line AS (
    SELECT id, 0 AS up, CASE WHEN parent_step IS NOT NULL THEN parent_run_id END AS above
      FROM runs_run WHERE id = %(run_id)s
    UNION ALL
    SELECT r.id, line.up + 1, CASE WHEN r.parent_step IS NOT NULL THEN r.parent_run_id END
      FROM line JOIN runs_run r ON r.id = line.above
)
SELECT b.*, line.up, NULL AS agent FROM line JOIN runs_budget b ON b.run_id = line.id
UNION ALL
SELECT b.*, 1000, a.slug FROM runs_run r JOIN agents_agentversion v ON v.id = r.agent_version_id
  JOIN runs_budget b ON b.workspace_id = r.workspace_id AND b.run_id IS NULL AND (b.agent_id IS NULL OR b.agent_id = v.agent_id)
  LEFT JOIN agents_agent a ON a.id = b.agent_id
 WHERE r.id = %(run_id)s
 ORDER BY up, agent NULLS LAST, kind;

-- name: fold_settled
-- What agents and workspaces have spent more than a day ago is one number.
WITH old AS (
    DELETE FROM runs_reservation WHERE id IN (
        SELECT v.id FROM runs_budget b JOIN runs_reservation v ON v.budget_id = b.id
         WHERE b.run_id IS NULL AND v.settled_at < clock_timestamp() - interval '1 day'
         ORDER BY v.id LIMIT %(limit)s FOR UPDATE OF v SKIP LOCKED)
    RETURNING budget_id, settled
)
UPDATE runs_budget b SET folded = b.folded + o.settled
  FROM (SELECT budget_id, sum(settled) AS settled FROM old GROUP BY 1) o WHERE b.id = o.budget_id;

-- name: time_left
-- When a run's time is used up: it begins to count with the run's start.
SELECT clock_timestamp() AS now, greatest(time_up_at, started_at + make_interval(secs => (limits ->> 'time_s')::float8)) AS up_at,
       started_at, (limits ->> 'time_s')::float8 AS time_s
  FROM runs_run WHERE id = %(run_id)s;

-- name: budget_work
-- All that budgets have to do, in one look (of one run, or of all):
-- hold: live runs whose time may be used up, and those below a run whose is.
-- release: those that were held with the run above them, which goes on.
-- fund: steps that wait for budgets in which there is room again, the longest waiting first; no more of them than fit
-- together, so that they do not wake to find the room taken.  (The one first in line may get less than it would like.)
-- looked: how far among those that wait the look came ("most" of them after step "after"); the next one goes on there.
-- What they wait for is in dollars where the budget counts in millionths of them.
-- (id + 0: or a plan made while tables were young would read all steps by their key.)
WITH looked AS MATERIALIZED (
    SELECT id, run_id, error FROM runs_step
     WHERE status = 'waiting' AND available_at IS NULL AND reason = 'budget' AND id + 0 > %(after)s
       AND (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s::uuid) ORDER BY id LIMIT %(most)s
), parked AS MATERIALIZED (
    SELECT s.id, s.run_id, n.budget, n.wants * unit.size AS wants, b.id IS NULL OR b.lim - b.spent - b.reserved >= n.needs * unit.size AS fits,
           b.lim - b.spent - b.reserved AS free
      FROM looked s
     CROSS JOIN LATERAL jsonb_to_recordset(s.error -> 'data' -> 'budgets') AS n(budget bigint, unit text, needs numeric, wants numeric)
     CROSS JOIN LATERAL (SELECT CASE n.unit WHEN 'usd' THEN 1000000 ELSE 1 END AS size) unit
      LEFT JOIN runs_budget b ON b.id = n.budget
), able AS (
    SELECT *, row_number() OVER line AS n, sum(wants) OVER line AS so_far
      FROM parked WHERE id IN (SELECT id FROM parked GROUP BY id HAVING bool_and(fits))
    WINDOW line AS (PARTITION BY budget ORDER BY id)
)
(SELECT 'fund' AS what, run_id, id AS step_id FROM able GROUP BY id, run_id
  HAVING bool_and(free IS NULL OR so_far <= free OR n = 1) ORDER BY id LIMIT %(limit)s)
UNION ALL
(SELECT 'hold', id, NULL FROM runs_run
  WHERE time_up_at < clock_timestamp() AND held_at IS NULL AND finished_at IS NULL AND status <> 'cancelling' LIMIT %(limit)s)
UNION ALL
(SELECT 'hold', c.id, NULL FROM runs_run p JOIN runs_run c ON c.parent_run_id = p.id AND c.parent_step IS NOT NULL
  WHERE p.held_at IS NOT NULL AND p.finished_at IS NULL AND c.held_at IS NULL AND c.finished_at IS NULL
    AND c.status <> 'cancelling' LIMIT %(limit)s)
UNION ALL
(SELECT 'release', c.id, NULL FROM runs_run c LEFT JOIN runs_run p ON p.id = c.parent_run_id AND c.parent_step IS NOT NULL
  WHERE c.held_at IS NOT NULL AND c.finished_at IS NULL AND c.status <> 'cancelling' AND p.held_at IS NULL
    AND (c.time_up_at IS NULL OR c.time_up_at > clock_timestamp()) LIMIT %(limit)s)
UNION ALL
(SELECT 'looked', NULL, max(id) FROM looked HAVING count(*) = %(most)s);

-- name: above_is_held
-- Has the time of the run above this one, which waits for it, been used up?
SELECT 1 AS found FROM runs_run c JOIN runs_run p ON p.id = c.parent_run_id
 WHERE c.id = %(run_id)s AND c.parent_step IS NOT NULL AND p.held_at IS NOT NULL AND p.finished_at IS NULL;

-- name: store_limits
UPDATE runs_run SET limits = limits || %(limits)s::jsonb WHERE id = %(run_id)s;
