"""Tokens and cost: reserved before a model call, settled after it, never over at any commit (P18)."""

from decimal import Decimal

import pytest

from agentsys.core.errors import InvalidInput, ModelFailed, ModelUnavailable
from agentsys.llm.types import CallEstimate
from agentsys.runs import budgets, control, handlers, services, verify
from agentsys.runs.leases import Held
from agentsys.runs.models import Budget, Reservation, Run, Step
from agentsys.runs.store import claims, moves, reservations, sweeps
from agentsys.runs.store.reservations import Spending
from tests.support.priced import MODEL
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}
TWO = [SAY, {**SAY, "key": "more", "depends_on": ["say"]}]


def budget(run=None, kind="tokens", **where):
    row = Budget.objects.get(run=run, kind=kind, **where)
    return row.lim, row.spent, row.reserved


def limit(agent, *, of_agent=False, **limits):
    budgets.set_limits(agent.workspace_id, agent.slug if of_agent else None, limits)


# --- The ordinary way -------------------------------------------------------------------
@pytest.mark.promise("P18")
def test_a_call_is_reserved_for_and_settled_with_what_it_has_used(submit, worker, priced):
    seen = []
    run = submit([SAY], model=MODEL, limits={"tokens": 10_000, "cost_usd": 1})
    priced.does(lambda: (seen.append((budget(run), budget(run, "cost_micros"))), priced.script.pop(0))[1]).answers()

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"say": "said"})
    (tokens, cost), *_ = seen
    assert tokens[1] == 0
    assert 0 < tokens[2] <= 10_000
    assert 0 < cost[2] <= 1_000_000
    assert (budget(run), budget(run, "cost_micros")) == ((10_000, 150, 0), (1_000_000, 200, 0))
    assert (run.input_tokens, run.output_tokens, run.cost_usd) == (100, 50, Decimal("0.0002"))
    assert priced.requests[0].max_output_tokens == 8192


def test_without_a_limit_nothing_is_reserved_and_the_provider_writes_as_it_likes(submit, worker, priced):
    worker.finish(submit([SAY], model=MODEL))

    assert not Budget.objects.exists()
    assert priced.requests[0].max_output_tokens is None


def test_an_answer_is_no_longer_than_what_is_left(submit, worker, priced):
    run = submit([SAY], model=MODEL, limits={"tokens": 700})

    worker.finish(run)

    assert 256 <= priced.requests[0].max_output_tokens < 700
    assert budget(run) == (700, 150, 0)


def test_the_offline_model_costs_nothing(submit, worker):
    run = submit(goal='Count the words in "a b c"', limits={"tokens": 1, "cost_usd": 0.000001})

    assert worker.finish(run).status == "succeeded"
    assert (budget(run), budget(run, "cost_micros")) == ((1, 0, 0), (1, 0, 0))


def delegated(*steps):
    return {"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": list(steps)}}}


@pytest.mark.promise("P18")
def test_the_calls_of_child_runs_count_on_all_the_runs_above_them(submit, worker, priced):
    run = submit([SAY, delegated(SAY, delegated(SAY))], model=MODEL, limits={"tokens": 50_000, "cost_usd": 1})

    worker.finish(run)

    assert (run.status, len(priced.requests)) == ("succeeded", 3)
    assert (budget(run), budget(run, "cost_micros")) == ((50_000, 450, 0), (1_000_000, 600, 0))


@pytest.mark.promise("P18")
def test_a_child_run_waits_for_room_above_it_and_goes_on_with_a_raise_there(submit, worker, priced):
    run = submit([delegated(SAY)], model=MODEL, limits={"tokens": 10})

    worker.work()

    child = Run.objects.get(parent_run=run)
    assert (child.status, child.reason, len(priced.requests)) == ("waiting", "budget", 0)
    control.resume(services.get(run.workspace_id, run.pk), limits={"tokens": 50_000})
    sweeps.mind_budgets()
    assert (worker.finish(run).status, budget(run)) == ("succeeded", (50_000, 150, 0))


# --- Used up ----------------------------------------------------------------------------
@pytest.mark.parametrize("limits", [{"tokens": 600}, {"cost_usd": 0.0008}])
def test_used_up_means_waiting_with_the_work_kept_and_a_raise_goes_on(submit, worker, priced, step_of, limits):
    run = submit(TWO, model=MODEL, limits=limits)

    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == (
        "waiting", "budget", {"say": "succeeded", "more": "waiting"},
    )  # fmt: skip
    waiting = step_of(run, "more")
    assert (waiting.reason, waiting.claim_token is None or waiting.lease_owner != "", waiting.failures) == (
        "budget", True, 0,
    )  # fmt: skip
    assert waiting.error["code"] == "budget_exhausted"
    name, value = next(iter(limits.items()))
    assert f"budget of {name}" in waiting.error["message"]
    assert f"POST /api/v1/runs/{run.pk}/resume" in waiting.error["message"]
    assert events(run)[-2:] == ["step.waiting more", "run.waiting"]
    assert worker.work() == 0

    control.resume(run, limits={name: value * 10})

    assert worker.finish(run).status == "succeeded"
    assert len(priced.requests) == 2


def test_nothing_is_lost_by_waiting_for_long(submit, worker, priced):
    run = submit([SAY], model=MODEL, limits={"tokens": 10})

    for _ in range(3):
        worker.work(sleepers=True)
        sweeps.mind_budgets()
        assert sweeps.repair_stuck() == 0

    run.refresh_from_db()
    assert (run.status, run.reason, len(priced.requests)) == ("waiting", "budget", 0)
    assert events(run).count("step.waiting say") == 1


def test_four_fifths_are_told_of_once(submit, worker, priced):
    priced.answers(tokens=(900, 99)).answers(tokens=(1, 0)).answers(tokens=(1, 0))
    steps = [*TWO, {**SAY, "key": "last", "depends_on": ["more"]}]
    run = submit(steps, model=MODEL, limits={"tokens": 100_000})
    budgets_row = Budget.objects.get(run=run)
    sql("UPDATE runs_budget SET spent = 79000, folded = 79000 WHERE id = %s", budgets_row.pk)

    worker.finish(run)

    warned = run.events.filter(type="budget.warning")
    told = {"scope": "run", "kind": "tokens", "unit": "tokens", "limit": 100000, "spent": 80000}
    assert [event.data for event in warned] == [told]


def test_the_warning_comes_before_the_runs_last_event(submit, worker, priced):
    run = worker.finish(submit([SAY], model=MODEL, limits={"tokens": 600}))
    priced.answers(tokens=(400, 100))
    run = worker.finish(submit([SAY], model=MODEL, limits={"tokens": 600}))

    assert events(run)[-3:] == ["step.succeeded say", "budget.warning", "run.succeeded"]


# --- What is charged --------------------------------------------------------------------
def reserved(run, *, tokens=300, most=100):
    """A claim of the run's step, and what it has reserved."""
    held = Held(claims.claim("model", owner="w"))
    held.spending = Spending()
    estimate = CallEstimate(tokens - most, most, Decimal("0.0001"), Decimal("0.000001"))
    assert reservations.reserve(held.claim, estimate, held.spending) == most
    return held


def reap(held):
    moves.give_back(held.claim.id, held.claim.run_id, held.claim.claim_token, why="dead")


def test_a_call_whose_worker_died_is_charged_in_full(submit, worker, priced):
    run = submit([SAY], model=MODEL, limits={"tokens": 1000})
    held = reserved(run)
    assert budget(run) == (1000, 0, 300)

    reap(held)

    assert budget(run) == (1000, 300, 0)
    assert worker.finish(run).status == "succeeded"
    assert budget(run) == (1000, 450, 0)


def test_a_step_that_is_given_back_before_it_asks_is_charged_nothing(submit, worker, priced):
    run = submit([SAY], model=MODEL, limits={"tokens": 1000})
    held = Held(claims.claim("model", owner="w"))

    moves.give_back(held.claim.id, run.pk, held.claim.claim_token, why="released")

    assert budget(run) == (1000, 0, 0)


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (ModelUnavailable("timed out"), True),
        (ModelUnavailable("HTTP 503", cost=False), False),
        (ModelFailed("HTTP 400", cost=False), False),
        (ModelFailed("no JSON"), True),
        (KeyError("bug"), True),
    ],
)
def test_a_call_that_failed_is_charged_unless_it_surely_cost_nothing(submit, worker, priced, error, charged):
    priced.does(error)
    run = submit([SAY], model=MODEL, limits={"tokens": 1000})

    worker.work()

    _, spent, held = budget(run)
    assert (held, spent > 256) == (0, charged)


def test_a_provider_that_says_nothing_of_its_use_is_believed_to_have_used_all(submit, worker, priced):
    priced.answers(tokens=(0, 0))
    run = submit([SAY], model=MODEL, limits={"tokens": 600})

    worker.finish(run)

    assert budget(run)[1] > 256


def test_every_call_of_an_attempt_is_charged_also_when_the_attempt_fails(submit, worker, priced):
    """The model is asked three times for an answer that fits, and never gives one."""
    for _ in range(3):
        priced.answers("no number", tokens=(10, 5))
    run = submit([SAY], model=MODEL, limits={"tokens": 50_000}, output_schema={"type": "object"})

    worker.finish(run)

    assert (run.status, run.error["code"]) == ("failed", "output_invalid")
    assert budget(run) == (50_000, 45, 0)
    assert (run.model_calls, run.input_tokens, run.output_tokens) == (3, 30, 15)


def test_the_second_call_of_an_attempt_finds_no_room_and_the_first_is_charged(submit, worker, priced):
    priced.answers("no number", tokens=(100, 200))
    run = submit([SAY], model=MODEL, limits={"tokens": 600}, output_schema={"type": "object"})

    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "budget")
    assert budget(run) == (600, 300, 0)
    assert (run.input_tokens, run.model_calls) == (100, 1)


@pytest.mark.promise("P18")
def test_what_is_used_beyond_the_limit_is_told_and_never_spent(submit, worker, priced):
    priced.answers(tokens=(5000, 100))
    run = submit([SAY], model=MODEL, limits={"tokens": 1000})

    worker.finish(run)

    assert (run.status, run.input_tokens) == ("succeeded", 5000)
    assert budget(run) == (1000, 1000, 0)
    assert Budget.objects.get(run=run).over == 4100


def test_a_worker_that_was_fenced_reserves_nothing(submit, priced):
    submit([SAY], model=MODEL, limits={"tokens": 1000})
    held = Held(claims.claim("model", owner="w"))
    reap(held)
    before = photograph()

    with pytest.raises(reservations.LeaseLost):
        reservations.reserve(held.claim, CallEstimate(1, 1), Spending())

    assert photograph() == before


def test_a_cancelled_run_settles_what_it_holds(submit, priced, worker):
    run = submit([SAY], model=MODEL, limits={"tokens": 10_000})
    priced.does(lambda: services.cancel(run) and priced.script.pop(0)).answers()

    worker.work()

    run.refresh_from_db()
    assert (run.status, budget(run)) == ("cancelled", (10_000, 150, 0))


# --- Raising a run's --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limits", "error"),
    [
        *(({"tokens": value}, InvalidInput) for value in (-1, 0, 1.5, True, "9", None, 10**30, float("nan"))),
        *(({"cost_usd": value}, InvalidInput) for value in (-1, 0, True, "9", float("nan"), float("inf"), 10**9)),
        ([1], InvalidInput),
        ({"wings": 2}, InvalidInput),
        ({"tokens": 100}, InvalidInput),
        ({"steps": 5}, InvalidInput),
    ],
)
def test_a_raise_that_is_none_changes_nothing(submit, worker, priced, limits, error):
    run = submit(TWO, model=MODEL, limits={"tokens": 600, "cost_usd": 1})
    worker.work()
    before = photograph()

    with pytest.raises(error):
        control.resume(run, limits=limits)

    assert photograph() == before


def test_a_resume_without_room_says_so(submit, worker, priced):
    run = submit(TWO, model=MODEL, limits={"tokens": 600})
    worker.work()
    before = photograph()

    with pytest.raises(control.InvalidTransition, match="no room"):
        control.resume(run)

    assert photograph() == before


def test_a_raise_in_a_paused_run_lets_it_go_on_with_both(submit, worker, priced):
    run = submit(TWO, model=MODEL, limits={"tokens": 600})
    worker.work()
    control.pause(run)

    control.resume(run, limits={"tokens": 5000})

    assert worker.finish(run).status == "succeeded"


def test_a_retry_begins_with_the_limits_as_they_are_and_nothing_spent(submit, worker, priced):
    priced.does(ModelFailed("no", cost=False))
    run = submit([SAY], model=MODEL, limits={"tokens": 600})
    control.resume(run, limits={"tokens": 700})
    worker.finish(run)

    again, _ = control.retry(run)

    assert (again.limits, budget(again)) == ({"tokens": 700}, (700, 0, 0))
    assert worker.finish(again).status == "succeeded"


# --- Agents and workspaces --------------------------------------------------------------
@pytest.mark.parametrize("of_agent", [True, False])
def test_runs_share_the_budget_of_their_agent_and_workspace(submit, worker, priced, agent, of_agent):
    limit(agent, of_agent=of_agent, tokens=600)
    first, second = (submit([SAY], model=MODEL) for _ in range(2))

    worker.work()
    sweeps.mind_budgets()
    worker.work()

    ends = sorted(Run.objects.values_list("status", flat=True))
    assert ends == ["succeeded", "succeeded"] or ends == ["succeeded", "waiting"]
    priced.answers(tokens=(200, 200))
    third = submit([SAY], model=MODEL)
    worker.work()
    third.refresh_from_db()
    assert (third.status, third.reason) == ("waiting", "budget")
    error = Step.objects.get(run=third).error["message"]
    assert ("PATCH /api/v1/budgets/agents/" if of_agent else "PATCH /api/v1/budgets/workspace") in error

    limit(agent, of_agent=of_agent, tokens=60_000)
    sweeps.mind_budgets()

    assert worker.finish(third).status == "succeeded"
    assert {first.pk, second.pk, third.pk} == set(Run.objects.filter(status="succeeded").values_list("pk", flat=True))


def test_a_limit_below_what_is_spent_is_refused_and_one_that_is_gone_limits_nothing(submit, worker, priced, agent):
    limit(agent, tokens=600, cost_usd=1)
    worker.finish(submit([SAY], model=MODEL))
    before = photograph()

    with pytest.raises(InvalidInput):
        limit(agent, cost_usd=2, tokens=149)

    assert photograph() == before
    limit(agent, tokens=150)
    run = submit([SAY], model=MODEL)
    worker.work()
    limit(agent, tokens=None)
    sweeps.mind_budgets()
    assert worker.finish(run).status == "succeeded"
    assert [one.kind for one in budgets.of_run(run)] == ["cost_usd"]


def test_no_more_steps_wake_than_there_is_room_for(submit, worker, priced, agent):
    limit(agent, tokens=10)
    runs = [submit([SAY], model=MODEL) for _ in range(6)]
    worker.work()
    limit(agent, tokens=10_000)

    sweeps.mind_budgets()

    woken = Step.objects.filter(run__in=runs, status="ready")
    assert woken.count() == 1


@pytest.mark.promise("P18")
def test_many_threads_reserve_on_one_budget_and_never_too_much(submit, agent, priced):
    limit(agent, tokens=1000)
    for _ in range(16):
        submit([SAY], model=MODEL)
    held = [Held(claim) for claim in claims.claim_some("model", owner="w", limit=16)]
    assert len(held) == 16
    over = []

    def one(held):
        held.spending = Spending()
        try:
            reservations.reserve(held.claim, CallEstimate(150, 10), held.spending)
        except reservations.BudgetExhausted:
            return 0
        over.append(budget(workspace=agent.workspace, agent=None))
        return 1

    granted = sum(in_parallel(*(lambda held=held: one(held) for held in held[:8])))
    granted += sum(in_parallel(*(lambda held=held: one(held) for held in held[8:])))

    assert granted == 6
    assert all(spent + kept <= lim for lim, spent, kept in over)
    assert budget(agent=None) == (1000, 0, 960)
    for claim in held:
        moves.give_back(claim.claim.id, claim.claim.run_id, claim.claim.claim_token, why="released")
    assert budget(agent=None) == (1000, 960, 0)


@pytest.mark.promise("P18")
def test_threads_that_reserve_and_settle_at_once_agree_with_their_history(submit, worker, priced, agent):
    limit(agent, tokens=1_000_000, cost_usd=10)
    runs = [submit([SAY], model=MODEL, limits={"tokens": 20_000}) for _ in range(12)]

    in_parallel(*(lambda: [worker.drain("model") for _ in range(4)] for _ in range(4)))

    assert set(Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("status", flat=True)) == {"succeeded"}
    assert budget(agent=None) == (1_000_000, 12 * 150, 0)
    assert budget(kind="cost_micros", agent=None) == (10_000_000, 12 * 200, 0)


def test_what_was_settled_long_ago_becomes_one_number(submit, worker, priced, agent):
    limit(agent, tokens=10_000)
    run = submit([SAY], model=MODEL, limits={"tokens": 5_000})
    worker.finish(run)
    sql("UPDATE runs_reservation SET settled_at = settled_at - interval '2 days'")

    sweeps.fold_settled()

    assert budget(agent=None) == (10_000, 150, 0)
    assert [row.budget.run_id for row in Reservation.objects.select_related("budget")] == [run.pk]


# --- The invariant ----------------------------------------------------------------------
@pytest.mark.violates
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs_budget SET spent = spent - 1",
        "UPDATE runs_budget SET reserved = 1",
        "UPDATE runs_reservation SET settled = settled + 1",
        "UPDATE runs_reservation SET amount = 5, settled_at = NULL",
        "UPDATE runs_budget SET lim = lim + 1",
    ],
)
def test_verify_finds_a_budget_that_does_not_agree_with_its_history(submit, worker, priced, change):
    worker.finish(submit([SAY], model=MODEL, limits={"tokens": 5_000}))
    assert not any(finding.violations for finding in verify.check())

    sql(change)

    assert [finding.name for finding in verify.check() if finding.violations] == ["I7"]


@pytest.mark.promise("P18")
def test_the_database_refuses_more_than_the_limit(submit, priced):
    submit([SAY], model=MODEL, limits={"tokens": 5_000})

    with pytest.raises(Exception, match="budget_within_limit"):
        sql("UPDATE runs_budget SET spent = 5001")


def test_a_run_leaves_with_its_budgets(submit, worker, priced):
    worker.finish(submit([SAY], model=MODEL, limits={"tokens": 5_000}))

    sql("DELETE FROM runs_run")

    assert (Budget.objects.count(), Reservation.objects.count()) == (0, 0)


def test_a_handler_of_any_kind_asks_through_the_meter():
    assert {"plan", "answer"} <= set(handlers.HANDLERS)


def test_of_many_steps_that_wait_for_budgets_the_first_do_not_hide_the_last_for_ever(
    submit, worker, priced, monkeypatch
):
    runs = [submit([SAY], model=MODEL, limits={"tokens": 1}) for _ in range(5)]
    worker.drain("model")
    assert {statuses(run)["say"] for run in runs} == {"waiting"}
    sql("UPDATE runs_budget SET lim = 100000 WHERE run_id = %s", runs[4].pk)
    sql("UPDATE runs_run SET limits = '{\"tokens\": 100000}' WHERE id = %s", runs[4].pk)
    monkeypatch.setattr("agentsys.runs.store.budgets.MOST_PARKED", 2)
    monkeypatch.setattr(sweeps._Rounds, "step", 0)

    sweeps.mind_budgets(), sweeps.mind_budgets()
    assert statuses(runs[4])["say"] == "waiting"
    sweeps.mind_budgets()

    assert [statuses(run)["say"] == "waiting" for run in runs] == [True] * 4 + [False]
    assert sweeps._Rounds.step == 0  # round again
