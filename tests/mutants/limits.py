"""The guards of limits: slots, fairness, caps on parallel steps, budgets and quotas."""

from tests.mutants.mutant import Mutant

SLOTS, MOVES_SQL = "agentsys/runs/sql/slots.sql", "agentsys/runs/sql/moves.sql"
COMPLETE, CONTROL = "agentsys/runs/sql/complete.sql", "agentsys/runs/sql/control.sql"
BUDGETS_SQL = "agentsys/runs/sql/budgets.sql"
HOLDING = "agentsys/runs/store/holding.py"

RATES = "agentsys/runs/migrations/0024_model_rates.py"

_RUNS = "tests/runs/"
_RATES = f"{_RUNS}test_model_rates.py"
_SLOTS, _PARALLEL, _FAIRNESS, _BUDGETS = (
    f"{_RUNS}test_{name}.py" for name in ("slots", "parallel", "fairness", "budgets")
)
_RACES = f"{_RUNS}test_budget_races.py"
_FREE = "CASE WHEN hungry THEN 0 ELSE greatest(0, lim - used) END AS free"
_LEVEL = "least(greatest(next_key, level.key), level.key + used * (10000000 / weight)) AS key"
_AHEAD = "greatest(next_key, extract(epoch FROM clock_timestamp()) * 1e6) AS key"

LIMITS = (
    # --- Slots -------------------------------------------------------------------------------------------------
    Mutant(
        "an admission takes no more slots than are free",
        ((SLOTS, "SELECT *, greatest(0, least(lim - used, %(limit)s)) AS free FROM", "SELECT *, %(limit)s::int AS free FROM"),),
        (f"{_SLOTS}::test_children_beyond_the_free_slots_wait_and_all_of_them_run", _SLOTS),
        ci=True,
    ),
    Mutant(
        "an admission locks its slot",
        ((SLOTS, "lane = %(lane)s FOR NO KEY UPDATE\n), found AS", "lane = %(lane)s\n), found AS"),),
        (f"{_SLOTS}::test_limits_hold_whatever_eight_workers_do_at_once", _SLOTS),
    ),
    Mutant(
        "what a pause or a cap holds is not admitted",
        (
            (SLOTS, "AND status = 'queued' AND held = ''\n     ORDER BY fair_key LIMIT (SELECT", "AND status = 'queued'\n     ORDER BY fair_key LIMIT (SELECT"),
            (SLOTS, "AND s.status = 'queued' AND s.held = ''\n    RETURNING s.id\n), n AS", "AND s.status = 'queued'\n    RETURNING s.id\n), n AS"),
        ),
        (f"{_SLOTS}::test_what_is_queued_in_a_paused_run_is_never_admitted_and_in_nobodys_way", _SLOTS),
        both="it is asked before the lock and of what was locked",
    ),
    Mutant(
        "a submission takes no more slots than are free",
        ((MOVES_SQL, _FREE, "1000000 AS free"),),
        (f"{_SLOTS}::test_first_steps_are_ready_while_slots_are_free_and_queued_above", _SLOTS),
        ci=True,
    ),
    Mutant(
        "a submission does not overtake those who wait for a slot",
        ((MOVES_SQL, _FREE, "greatest(0, lim - used) AS free"),),
        (f"{_SLOTS}::test_a_submission_does_not_overtake_those_who_wait_for_a_slot_that_has_just_been_freed", _SLOTS),
    ),
    Mutant(
        "a submission locks its slots",
        ((MOVES_SQL, "ORDER BY lane FOR NO KEY UPDATE\n), start AS", "ORDER BY lane\n), start AS"),),
        (f"{_SLOTS}::test_submissions_at_the_same_moment_never_take_more_than_there_is", _SLOTS),
    ),
    Mutant(
        "a completion takes no more slots for children than are free",
        ((COMPLETE, _FREE, "1000000 AS free"),),
        (f"{_SLOTS}::test_children_beyond_the_free_slots_wait_and_all_of_them_run", _SLOTS),
        ci=True,
    ),
    Mutant(
        "children queue behind those who wait for a slot",
        ((COMPLETE, _FREE, "greatest(0, lim - used) AS free"),),
        (f"{_SLOTS}::test_children_do_not_overtake_those_who_wait_for_a_slot_that_has_just_been_freed", _SLOTS),
    ),
    Mutant(
        "a step that ends gives its slot back",
        ((COMPLETE, "SET used = greatest(0, locked.used - freed.n), lim", "SET used = locked.used, lim"),),
        (f"{_SLOTS}::test_a_step_whose_run_ends_hands_its_slot_to_the_one_that_waits", _SLOTS),
        ci=True,
    ),
    Mutant(
        "a step that leaves in any other way gives its slot back",
        ((HOLDING, "self._freed[lane] += (was in STEP_SLOTTED) - (to in STEP_SLOTTED)", "self._freed[lane] += 0"),),
        (f"{_SLOTS}::test_a_run_that_stops_frees_the_slots_of_what_has_not_started", _SLOTS),
    ),
    Mutant(
        "under a lowered limit what has not started goes back",
        (("agentsys/runs/store/slots.py", 'if row["used"] > row["lim"]:\n', "if False:\n"),),
        ("tests/api/test_lanes.py::test_under_a_lowered_limit_what_has_not_started_goes_back_and_what_runs_ends", "tests/api/test_lanes.py"),
    ),
    Mutant(
        "the table refuses more slots than the limit",
        (("agentsys/runs/migrations/0013_slots.py", 'used__lte=F("lim") + F("over")', 'used__lte=F("lim") + F("over") + 1000'),),
        (f"{_SLOTS}::test_more_than_the_limit_cannot_be_written",),
        fresh=True,
    ),
    # --- Fairness ----------------------------------------------------------------------------------------------
    Mutant(
        "a workspace's ready steps stand apart",
        tuple((file, "SELECT slot.*, 10000000 / weight AS spacing", "SELECT slot.*, 0 AS spacing") for file in (SLOTS, MOVES_SQL, COMPLETE)),
        (_FAIRNESS,),
    ),
    Mutant(
        "the virtual clock stands at the lane's level",
        tuple((file, _LEVEL, _AHEAD) for file in (SLOTS, MOVES_SQL, COMPLETE)),
        (f"{_FAIRNESS}::test_a_workspace_that_comes_late_is_level_with_one_that_had_the_lane_for_itself", _FAIRNESS),
    ),
    # --- A run's cap on its parallel steps -----------------------------------------------------------------------
    Mutant(
        "of a new run no more steps begin than its cap says",
        ((HOLDING, 'return [{**row, "held": PARALLEL} if row["key"] in late else row for row in rows] if late else rows', "return rows"),),
        (f"{_PARALLEL}::test_of_a_runs_first_steps_only_as_many_begin", _PARALLEL),
    ),
    Mutant(
        "places are given for what is free of the cap",
        ((CONTROL, "SELECT %(parallel)s - count(*) AS n FROM place", "SELECT %(parallel)s::int + 0 * count(*) AS n FROM place"),),
        (f"{_PARALLEL}::test_workers_that_race_never_exceed_it_and_use_it", _PARALLEL),
        ci=True,
    ),
    Mutant(
        "a completion claims no more children than it gives places",
        ((COMPLETE, "       AND (kin.parallel IS NULL OR kin.of_run <= (", "       AND (true OR kin.of_run <= ("),),
        (f"{_PARALLEL}::test_children_of_a_step_take_its_place_and_the_others_that_are_free", _PARALLEL),
        ci=True,
    ),
    Mutant(
        "over a lowered cap no place is handed on",
        ((COMPLETE, " AND NOT run.over_cap))", "))"),),
        (f"{_PARALLEL}::test_under_a_lowered_cap_no_chain_hands_its_place_on_until_it_is_kept", _PARALLEL),
    ),
    Mutant(
        "a cap that is lowered takes back what is admitted at that moment",
        ((CONTROL, "), fit AS MATERIALIZED (", "), fit AS NOT MATERIALIZED ("),),
        (f"{_PARALLEL}::test_a_cap_that_is_lowered_takes_back_what_is_admitted_at_that_moment", _PARALLEL),
    ),
    Mutant(
        "children beyond the cap are held",
        ((COMPLETE, "WHEN ends.parallel IS NOT NULL AND pick.id IS NULL THEN 'parallel' ELSE '' END", "ELSE '' END"),),
        (f"{_PARALLEL}::test_children_in_other_lanes_count", _PARALLEL),
    ),
    # --- Models and strangers ----------------------------------------------------------------------------------
    Mutant(
        "what a stranger has written is asked about",
        (("agentsys/runs/handlers.py", "claim.approval or spec.approval or bool(tainted)", "claim.approval or spec.approval"),),
        (f"{_RUNS}test_trust.py::test_what_a_page_says_goes_to_no_unsafe_tool_without_a_persons_word", f"{_RUNS}test_trust.py"),
        ci=True,
    ),
    Mutant(
        "what a model has seen stays with what it writes",
        (("agentsys/runs/trust.py", "return self._given | self._files | self._of_steps([*waited_for, *seen])", "return self._given"),),
        (f"{_RUNS}test_trust.py",),
    ),
    Mutant(
        "calls of an account are judged one at a time",
        ((RATES, "    PERFORM pg_advisory_xact_lock(hashtextextended('runs_model_room ' || which, 0));\n", ""),),
        (f"{_RATES}::test_of_many_at_once_as_many_are_let_through_as_may_be_and_the_others_get_their_turns", _RATES),
    ),
    Mutant(
        "a turn that may be in the next minute counts",
        ((RATES, "c.at < moment + interval '65 s'", "c.at < moment"),),
        (f"{_RATES}::test_in_no_minute_are_there_more_than_may_be", _RATES),
    ),
    # --- Budgets -----------------------------------------------------------------------------------------------
    Mutant(
        "a call is made only where there is room",
        ((BUDGETS_SQL, "WHERE b.id = room.id AND fit.output >= %(least)s::bigint", "WHERE b.id = room.id"),),
        (_BUDGETS,),
    ),
    Mutant(
        "the fence of a reservation is the claim",
        ((BUDGETS_SQL, "SELECT 1 FROM runs_step WHERE id = %(step_id)s AND claim_token = %(token)s::uuid AND status = 'running' FOR SHARE",
          "SELECT 1 FROM runs_step WHERE id = %(step_id)s AND %(token)s::uuid IS NOT NULL FOR SHARE"),),
        (_BUDGETS,),
    ),
    Mutant(
        "a plan finds room for all of its steps or for none",
        ((BUDGETS_SQL, "SELECT bool_and(spent + %(steps)s::int <= lim) AS fits FROM mine", "SELECT true AS fits FROM mine"),),
        (f"{_RUNS}test_limits.py",),
    ),
    Mutant(
        "what others have reserved is not free",
        ((BUDGETS_SQL, "SELECT *, lim - spent - charge - reserved + before AS free", "SELECT *, lim - spent - charge AS free"),),
        (f"{_BUDGETS}::test_many_threads_reserve_on_one_budget_and_never_too_much", _BUDGETS, _RACES),
        ci=True,
    ),
    Mutant(
        "a reservation locks its budgets",
        ((BUDGETS_SQL, "ORDER BY b.id FOR NO KEY UPDATE\n), asked AS (", "ORDER BY b.id\n), asked AS ("),),
        (f"{_BUDGETS}::test_many_threads_reserve_on_one_budget_and_never_too_much", _BUDGETS, _RACES),
    ),
    Mutant(
        "a call counts on the runs above its own",
        ((BUDGETS_SQL, "SELECT b.id FROM line JOIN runs_budget b ON b.run_id = line.id AND b.kind <> 'steps'\n", "SELECT b.id FROM runs_budget b WHERE b.run_id = %(run_id)s AND b.kind <> 'steps'\n"),),
        (f"{_BUDGETS}::test_the_calls_of_child_runs_count_on_all_the_runs_above_them", _BUDGETS),
    ),
    Mutant(
        "a claim that has ended holds nothing of a budget",
        ((BUDGETS_SQL, "reserved = c.reserved - c.amount,", "reserved = c.reserved,"),),
        (_BUDGETS,),
    ),
    Mutant(
        "a limit is not lowered below what is spent and reserved",
        ((BUDGETS_SQL, "    WHERE b.spent + b.reserved <= EXCLUDED.lim\n", ""),),
        (f"{_BUDGETS}::test_a_limit_below_what_is_spent_is_refused_and_one_that_is_gone_limits_nothing", _BUDGETS),
    ),
    Mutant(
        "the table refuses more than a budget's limit",
        (("agentsys/runs/migrations/0012_budgets.py", '"spent + reserved <= lim"', '"spent + reserved <= lim OR spent > 0"'),),
        (f"{_BUDGETS}::test_the_database_refuses_more_than_the_limit",),
        fresh=True,
    ),
    Mutant(
        "more than the quota is refused",
        (("agentsys/runs/sql/quota.sql", "* %(rate)s / 60) >= %(count)s\n", "* %(rate)s / 60) + 0 * %(count)s > -1e9\n"),),
        ("tests/api/test_quota.py",),
    ),
)  # fmt: skip
