"""The guards, each with the change that removes it and the tests that must fail then.

A guard with a second one behind it says so in ``both``, and is removed together with that.  Those of slots, caps and
budgets are in ``limits.py``.
"""

from tests.mutants.limits import LIMITS
from tests.mutants.mutant import Mutant

CLAIM = "agentsys/runs/sql/claim.sql"
COMPLETE = "agentsys/runs/sql/complete.sql"
CONTROL = "agentsys/runs/sql/control.sql"
MOVES_SQL = "agentsys/runs/sql/moves.sql"
SWEEPS = "agentsys/runs/sql/sweeps.sql"
APPROVALS = "agentsys/runs/sql/approvals.sql"
MOVES = "agentsys/runs/store/moves.py"
EXPANSION = "agentsys/runs/store/expansion.py"
LEASES = "agentsys/runs/leases.py"

_RUNS = "tests/runs/"
_FENCE, _COMPLETE, _UNSAFE, _REAP = (f"{_RUNS}test_{name}.py" for name in ("fence", "complete", "unsafe", "reap"))


MUTANTS = (
    *LIMITS,
    # --- The fence ---------------------------------------------------------------------------------------------
    Mutant(
        "complete asks for the claim's token",
        ((COMPLETE, "AND s.claim_token = run.token AND s.status = 'running'", "AND s.status = 'running'"),),
        ("tests/runs/test_fence.py::test_a_stale_worker_is_refused_and_not_one_row_changes", _FENCE, _COMPLETE),
        ci=True,
    ),
    Mutant(
        "complete asks for the old state",
        ((COMPLETE, "AND s.claim_token = run.token AND s.status = 'running'", "AND s.claim_token = run.token"),),
        (f"{_COMPLETE}::test_told_twice_while_others_are_open_it_changes_nothing_the_second_time", _COMPLETE),
        ci=True,
    ),
    Mutant(
        "whoever leaves running shows the token",
        (
            (MOVES_SQL, "s.claim_token = %(token)s::uuid AND s.status = 'running'\n   AND (%(to)s", "s.status = 'running'\n   AND (%(to)s"),
            (MOVES_SQL, "AND claim_token = %(token)s AND status = 'running' FOR NO KEY", "AND status = 'running' FOR NO KEY"),
        ),
        ("tests/runs/test_fence.py::test_a_stale_worker_is_refused_and_not_one_row_changes", _FENCE,),
        both="leave_running and the look before it (held) ask both",
    ),
    Mutant(
        "a heartbeat renews what its token holds",
        (
            (CLAIM, "s.id = ANY(%(ids)s::bigint[]) AND s.claim_token = ANY(%(tokens)s::uuid[]) AND s.status = 'running'\n     ORDER BY", "s.id = ANY(%(ids)s::bigint[]) AND s.status = 'running'\n     ORDER BY"),
        ),
        ("tests/runs/test_fence.py::test_a_stale_worker_hears_of_it_by_the_heartbeat_and_renews_nothing", _FENCE, _REAP),
    ),
    Mutant(
        "the gate asks for the token",
        ((CLAIM, "WHERE s.id = %(step_id)s AND s.claim_token = %(token)s::uuid AND s.status = 'running'\n   AND s.effect", "WHERE s.id = %(step_id)s AND s.status = 'running'\n   AND s.effect"),),
        ("tests/runs/test_fence.py::test_a_stale_worker_opens_no_gate", _FENCE,),
    ),
    Mutant(
        "a lease that was renewed in time is not taken",
        ((MOVES, 'if held is None or (why == "lease" and not held["expired"]):', "if held is None:"),),
        ("tests/runs/test_reap.py::test_a_heartbeat_that_slips_in_wins", _REAP,),
    ),
    # --- Locks and what is compared ----------------------------------------------------------------------------
    Mutant(
        "complete locks its runs",
        ((COMPLETE, "AND (g.last OR open_steps > g.of_run)\n              FOR NO KEY UPDATE) r", "AND (g.last OR open_steps > g.of_run)) r"),),
        ("tests/runs/test_complete.py::test_the_last_two_steps_finishing_together_end_the_run_once_with_both_outputs", _COMPLETE, f"{_RUNS}test_pause.py", f"{_RUNS}test_cancel.py", f"{_RUNS}test_shapes.py"),
        ci=True,
    ),
    Mutant(
        "a change locks its run",
        ((MOVES_SQL, "SELECT * FROM runs_run WHERE id = %(run_id)s FOR NO KEY UPDATE;", "SELECT * FROM runs_run WHERE id = %(run_id)s;"),),
        ("tests/runs/test_unsafe.py::test_of_two_words_at_the_same_moment_one_counts", _UNSAFE, f"{_RUNS}test_cancel.py", f"{_RUNS}test_approval_races.py"),
        ci=True,
    ),
    Mutant(
        "complete compares the plan's version",
        ((COMPLETE, "WHERE id = g.run_id AND plan_version = g.plan_version AND (open_steps", "WHERE id = g.run_id AND (open_steps"),),
        ("tests/runs/test_complete.py::test_edges_added_while_a_completion_waits_for_the_run_are_honoured", _COMPLETE,),
    ),
    Mutant(
        "complete compares whether this step is the last",
        ((COMPLETE, "AND (open_steps = 1) = g.last\n              AND (g.last OR open_steps > g.of_run)", ""),),
        ("tests/runs/test_complete.py::test_the_last_two_steps_finishing_together_end_the_run_once_with_both_outputs", _COMPLETE, f"{_RUNS}test_results.py"),
    ),
    Mutant(
        "the claim's look is materialized",
        # No behaviour changes: PostgreSQL inlines no CTE that locks.  A rule of the house keeps the word.
        ((CLAIM, "WITH c AS MATERIALIZED (", "WITH c AS ("),),
        ("tests/test_architecture.py::test_a_few_rows_that_are_locked_are_chosen_once",),
        ci=True,
    ),
    Mutant(
        "a claim waits for no lock of a run",
        ((CLAIM, "SELECT id, status FROM runs_run WHERE id = look.run_id FOR NO KEY UPDATE SKIP LOCKED) r", "SELECT id, status FROM runs_run WHERE id = look.run_id FOR NO KEY UPDATE) r"),),
        ("tests/runs/test_claim.py::test_a_claim_waits_for_no_lock_and_takes_another_run_instead", f"{_RUNS}test_claim.py",),
    ),
    Mutant(
        "a step that was there when a worker died is claimed alone",
        ((CLAIM, "AND ((turn.n = 1 AND %(alone)s) OR turn.crashes_so_far = 0)", "AND ((turn.n = 1 AND %(alone)s) OR turn.crashes_so_far >= 0)"),),
        ("tests/runs/test_turns.py::test_a_step_that_was_there_when_a_worker_died_joins_no_turn_with_others", f"{_RUNS}test_turns.py", _REAP),
    ),
    # --- Effects -----------------------------------------------------------------------------------------------
    Mutant(
        "an unsafe call has a gate",
        ((LEASES, "if self.claim.effect in GATED and not self.gate_open:", "if False:"),),
        ("tests/runs/test_unsafe.py::test_the_call_is_recorded_before_it_is_made", _UNSAFE,),
        ci=True,
    ),
    Mutant(
        "the gate opens once a claim",
        ((CLAIM, "   AND s.effect_started_at IS NULL\n   AND s.lease", "   AND s.lease"),),
        ("tests/runs/test_unsafe.py::test_the_gate_opens_once_a_claim", _UNSAFE,),
        ci=True,
    ),
    Mutant(
        "the gate stays shut on a lease that is nearly gone",
        ((CLAIM, "   AND s.lease_expires_at > clock_timestamp() + make_interval(secs => %(margin_s)s)\n", "   AND %(margin_s)s::float8 > 0\n"),),
        ("tests/runs/test_unsafe.py::test_a_lease_that_is_nearly_gone_starts_no_call_and_the_step_goes_to_the_next", _UNSAFE,),
    ),
    Mutant(
        "the gate stays shut in a run that stops",
        ((CLAIM, "   AND r.id = s.run_id AND r.cancel_at IS NULL\n", "   AND r.id = s.run_id\n"),),
        ("tests/runs/test_cancel.py::test_the_gate_of_an_unsafe_call_stays_shut_in_a_stopping_run", f"{_RUNS}test_cancel.py", _UNSAFE),
    ),
    Mutant(
        "a step whose call may have started does not go back",
        (
            (MOVES_SQL, "AND (%(to)s::text NOT IN ('ready', 'queued', 'sleeping') OR s.effect_started_at IS NULL OR %(not_sent)s", "AND (%(not_sent)s OR true"),
            (MOVES, 'if held["effect_started_at"] is not None:\n        error', "if False:\n        error"),
        ),
        ("tests/runs/test_unsafe.py::test_a_worker_that_ends_after_the_gate_leaves_it_to_a_person", _UNSAFE,),
        both="give_back decides so, and leave_running refuses anything else",
    ),
    Mutant(
        "after the gate only a plain no is believed",
        (("agentsys/runs/store/unknown.py", "if started and (error.retryable or unexpected)", "if False and (error.retryable or unexpected)"),),
        ("tests/runs/test_leases.py::test_an_unsafe_call_past_its_time_is_in_the_dark", f"{_RUNS}test_leases.py", f"{_RUNS}test_engine.py"),
    ),
    Mutant(
        "outputs are made storable before the commit",
        (("agentsys/tools/runner.py", "return self._hidden.value(clean(output, max_bytes=settings.MAX_OUTPUT_BYTES))", "return output"),),
        ("tests/tools/test_runner.py::test_arguments_go_in_and_the_output_comes_out_as_plain_json", "tests/tools/test_runner.py", f"{_RUNS}test_results.py"),
    ),
    # --- Time --------------------------------------------------------------------------------------------------
    Mutant(
        "after a restart of PostgreSQL nobody is judged for a lease",
        ((SWEEPS, "   AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)\n", "   AND %(lease_s)s::float8 > 0\n"),),
        ("tests/runs/test_reap.py::test_after_a_restart_of_postgresql_nobody_is_judged_for_a_whole_lease", _REAP,),
        ci=True,
    ),
    Mutant(
        "a sweeper judges after a lease of unbroken contact",
        (("agentsys/infrastructure/sweeper.py", "if time.monotonic() - self._contact_since >= settings.LEASE_S:", "if True:"),),
        ("tests/runs/test_reap.py::test_a_sweeper_that_lost_contact_waits_again", _REAP,),
    ),
    Mutant(
        "timers are told by PostgreSQL's clock, and never early",
        ((SWEEPS, "WHERE status = 'sleeping' AND available_at <= clock_timestamp()\n", "WHERE status = 'sleeping' AND available_at <= clock_timestamp() + interval '1 second'\n"),),
        ("tests/runs/test_timers.py::test_a_sleeper_is_never_woken_early", f"{_RUNS}test_timers.py",),
    ),
    Mutant(
        "three crashes are poison",
        (
            (
                "agentsys/runs/store/crashes.py",
                'return bool(held["crashes"] + 1 >= MAX_CRASHES)',
                "return False",
            ),
        ),
        ("tests/runs/test_reap.py::test_three_crashes_are_poison", _REAP,),
    ),
    Mutant(
        "what wakes in a paused run is held back",
        ((SWEEPS, "AND (r.status = 'paused' OR r.held_at", "AND (r.status = 'gone' OR r.held_at"),),
        ("tests/runs/test_pause.py::test_a_try_that_fails_sleeps_and_what_comes_due_stays_in_its_paused_run", f"{_RUNS}test_pause.py",),
    ),
    # --- Run control -------------------------------------------------------------------------------------------
    Mutant(
        "a stop cancels what has not started",
        (("agentsys/runs/store/change.py", '        self.cancel_open("run")\n\n    def hold', "\n    def hold"),),
        ("tests/runs/test_cancel.py::test_a_run_that_has_not_started_is_cancelled_at_once", f"{_RUNS}test_cancel.py",),
    ),
    Mutant(
        "a plan made in a run that stops adds no steps",
        ((EXPANSION, "goes_on = change.run[\"status\"] != RunStatus.CANCELLING", "goes_on = True"),),
        ("tests/runs/test_planning.py::test_a_plan_that_comes_after_the_cancel_opens_nothing", f"{_RUNS}test_cancel.py", f"{_RUNS}test_planning.py"),
    ),
    Mutant(
        "a word about a call in the dark counts once",
        ((MOVES_SQL, "AND s.key = %(key)s AND s.status = 'waiting' AND s.reason = %(reason)s", "AND s.key = %(key)s AND %(reason)s::text <> ''"),),
        ("tests/runs/test_unsafe.py::test_the_first_word_counts", _UNSAFE,),
    ),
    Mutant(
        "a child is taken over once it has ended",
        ((CONTROL, "WHERE c.parent_step = %(step_id)s AND c.finished_at IS NOT NULL AND s.status = 'waiting'", "WHERE c.parent_step = %(step_id)s AND s.status = 'waiting'"),),
        ("tests/runs/test_children.py::test_a_childs_result_is_its_steps_output", f"{_RUNS}test_children.py",),
    ),
    Mutant(
        "a step has one child, whatever became of its worker",
        (("agentsys/runs/delegation.py", "    if (there := Run.objects.filter(parent_step=claim.id).values_list(\"pk\", flat=True).first()) is not None:\n        return Delegated(there)\n", ""), (CONTROL, "    ON CONFLICT DO NOTHING\n", "")),
        ("tests/runs/test_children.py::test_an_attempt_that_comes_again_finds_the_child_of_the_first", f"{_RUNS}test_children.py",),
        both="the look before, and ON CONFLICT for those who look at the same moment",
    ),
    # --- People ------------------------------------------------------------------------------------------------
    Mutant(
        "an approval is for exactly the arguments shown",
        ((APPROVALS, "AND a.digest = %(digest)s AND a.kind = 'approval' AND a.decision = 'approve'", "AND %(digest)s::text <> '' AND a.kind = 'approval' AND a.decision = 'approve'"),),
        ("tests/runs/test_approvals.py::test_arguments_that_have_changed_since_are_asked_about_again", f"{_RUNS}test_approvals.py",),
    ),
    Mutant(
        "only an approved call is made",
        ((APPROVALS, "AND a.kind = 'approval' AND a.decision = 'approve'", "AND a.kind = 'approval'"),),
        (f"{_RUNS}test_approval_races.py::test_the_call_that_somebody_has_edited_is_not_the_one_approved",),
    ),
    Mutant(
        "an approval is used by who holds the step",
        ((APPROVALS, "AND s.id = a.step_id AND s.claim_token = %(token)s::uuid AND s.status = 'running'", "AND s.id = a.step_id"),),
        ("tests/runs/test_approval_races.py::test_an_approval_is_not_for_another_claim", f"{_RUNS}test_approval_races.py",),
    ),
    Mutant(
        "a question is decided once",
        ((APPROVALS, "WHERE id = %(id)s AND decision = '' AND (expires_at", "WHERE id = %(id)s AND (expires_at"),),
        ("tests/runs/test_approval_races.py::test_of_twenty_at_once_one_decides", f"{_RUNS}test_approval_races.py", f"{_RUNS}test_approvals.py"),
        ci=True,
    ),
    Mutant(
        "after its time nothing is decided, and nothing expires before",
        ((APPROVALS, "AND (expires_at IS NOT NULL AND expires_at <= clock_timestamp()) = (%(decision)s::text = 'expired')", ""),),
        ("tests/runs/test_approvals.py::test_after_its_time_nothing_is_decided_even_before_the_sweeper_comes", f"{_RUNS}test_approvals.py", f"{_RUNS}test_approval_races.py"),
    ),
    Mutant(
        "who decides says what they saw",
        (("agentsys/runs/approvals.py", "if digest is not None and digest != approval.digest:", "if False:"),),
        ("tests/runs/test_approvals.py::test_a_decision_on_something_else_than_was_seen_is_refused", f"{_RUNS}test_approvals.py",),
    ),
    # --- Submission and reading --------------------------------------------------------------------------------
    Mutant(
        "a key makes one run",
        ((MOVES_SQL, "    ON CONFLICT (workspace_id, idempotency_key) DO NOTHING\n", ""),),
        ("tests/runs/test_submission.py::test_of_many_with_the_same_key_at_once_one_makes_the_run", f"{_RUNS}test_submission.py",),
        ci=True,
    ),
    Mutant(
        "a key belongs to one request",
        (("agentsys/runs/services.py", "if run is not None and run.request_digest != digest:", "if False:"),),
        (f"{_RUNS}test_submission.py",),
    ),
    Mutant(
        "events are shown to the run's own workspace",
        (("agentsys/api/events.py", "        self.check_run(run_id)\n", ""),),
        ("tests/api/test_events.py::test_a_refused_stream_is_a_problem", "tests/api/test_events.py",),
    ),
    # --- The tables --------------------------------------------------------------------------------------------
    Mutant(
        "a trigger holds the moves of steps",
        (("agentsys/runs/migrations/0002_guards.py", "    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION runs_step_guard();", "    WHEN (false) EXECUTE FUNCTION runs_step_guard();"),),
        (f"{_RUNS}test_states.py",),
        fresh=True,
    ),
    Mutant(
        "a trigger keeps final steps as they are",
        (("agentsys/runs/migrations/0002_guards.py", "    WHEN (OLD.status IN ('succeeded', 'failed', 'skipped', 'cancelled')) EXECUTE", "    WHEN (false) EXECUTE"),),
        (f"{_RUNS}test_states.py",),
        fresh=True,
    ),
)  # fmt: skip
