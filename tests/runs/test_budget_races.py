"""Budgets under threads: a run that is held starts nothing, a parked step goes on once, limits hold."""

import pytest

from agentsys.core.errors import AgentSysError
from agentsys.llm.types import CallEstimate
from agentsys.runs import budgets, control, services
from agentsys.runs.leases import Held
from agentsys.runs.models import Budget, Event, Run
from agentsys.runs.store import claims, moves, reservations, sweeps
from agentsys.runs.store.reservations import Spending
from tests.support.priced import MODEL
from tests.support.rows import sql
from tests.support.threads import in_parallel
from tests.support.worker import events

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}


def chain(length):
    return [
        {"key": f"s{n}", "tool": "test.echo", "arguments": {"value": f"${{s{n - 1}}}" if n else 0}}
        for n in range(length)
    ]


def quietly(work):
    try:
        return work()
    except AgentSysError as error:
        return error.code


@pytest.mark.parametrize("_", range(4))
def test_nothing_starts_in_a_run_after_it_is_held_whoever_claims_and_completes_meanwhile(submit, worker, _):
    runs = [submit(chain(12), limits={"time_s": 60}) for _ in range(4)]
    sql("UPDATE runs_run SET started_at = clock_timestamp() - interval '1 hour', time_up_at = clock_timestamp()")

    in_parallel(*(lambda: worker.drain("compute") for _ in range(3)), *(sweeps.mind_budgets for _ in range(2)))

    for run in runs:
        run.refresh_from_db()
        held = run.events.filter(type="run.waiting").order_by("seq").first()
        if held is not None:
            assert not Event.objects.filter(run=run, type="step.started", seq__gt=held.seq).exists()
            assert (run.status, run.reason) == ("waiting", "budget")
        control.resume(run, limits={"time_s": 6000}) if held else None
    for run in runs:
        assert worker.finish(run).status == "succeeded"


def test_many_who_find_room_for_a_parked_step_let_it_go_on_once(submit, worker, priced):
    run = submit([SAY], model=MODEL, limits={"tokens": 10})
    worker.work()
    sql("UPDATE runs_budget SET lim = 50000")
    sql("UPDATE runs_run SET limits = '{\"tokens\": 50000}'")

    in_parallel(*(sweeps.mind_budgets for _ in range(6)))

    assert events(run).count("step.released say") == 1
    assert worker.finish(run).status == "succeeded"


@pytest.mark.parametrize("_", range(4))
def test_raises_cancels_and_sweeps_of_a_run_that_parks_agree(submit, worker, priced, _):
    runs = [submit([SAY], model=MODEL, limits={"tokens": 10}) for _ in range(3)]

    def raise_all():
        return [quietly(lambda run=run: control.resume(run, limits={"tokens": 9_000}) and "raised") for run in runs]

    in_parallel(
        lambda: worker.drain("model"), lambda: worker.drain("model"), raise_all, raise_all, sweeps.mind_budgets,
        lambda: quietly(lambda: services.cancel(runs[0]) and "cancelled"),
    )  # fmt: skip
    sweeps.mind_budgets()

    ends = [worker.finish(run).status for run in runs]
    assert ends[0] in ("cancelled", "succeeded")
    assert ends[1:] == ["succeeded", "succeeded"]


@pytest.mark.promise("P18")
def test_a_workers_reservation_and_the_reaper_that_takes_its_claim_never_leave_anything_reserved(submit, priced):
    for _ in range(20):
        run = submit([SAY], model=MODEL, limits={"tokens": 5_000})
        held = Held(claims.claim("model", owner="w"))
        one = held.claim

        def ask(one=one):
            return quietly(lambda: reservations.reserve(one, CallEstimate(10, 10), Spending()))

        def reap(one=one):
            return moves.give_back(one.id, one.run_id, one.claim_token, why="released")

        in_parallel(ask, reap)

        row = Budget.objects.get(run=run)
        assert (row.reserved, row.spent) in ((0, 0), (0, 20))
        services.cancel(run)


def test_limits_that_are_lowered_while_others_reserve_hold(submit, priced, agent):
    budgets.set_limits(agent.workspace_id, None, {"tokens": 1000})
    for _ in range(8):
        submit([SAY], model=MODEL)
    held = claims.claim_some("model", owner="w", limit=8)
    over = []

    def reserve(one):
        quietly(lambda: reservations.reserve(one, CallEstimate(90, 10), Spending()))
        row = Budget.objects.get(run=None)
        over.append(row.spent + row.reserved > row.lim)

    lowered = in_parallel(
        *(lambda one=one: reserve(one) for one in held[:6]),
        *(lambda: quietly(lambda: budgets.set_limits(agent.workspace_id, None, {"tokens": 250})) for _ in range(2)),
    )

    row = Budget.objects.get(run=None)
    assert not any(over)
    assert row.lim in (250, 1000)
    assert lowered[6:].count("invalid_input") in (0, 1, 2)
    assert Run.objects.filter(status="running").count() == 8
