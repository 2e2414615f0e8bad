"""What a turn holds never outlives it: neither an outage nor a poisonous step costs what shares it anything."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from django.db import OperationalError

from agentsys.core.errors import DatabaseUnavailable
from agentsys.runs import engine, handlers, leases, services
from agentsys.runs.attempts import AttemptInfo
from agentsys.runs.store import complete, moves, sweeps
from tests.support.outages import lose_answer
from tests.support.rows import expire, sql, value
from tests.support.threads import background, until
from tests.support.worker import statuses
from workers.upkeep import Reliever


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@dataclass
class Ledger:
    """An observer that keeps who began and who ended."""

    begun: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)

    def started(self, attempt: AttemptInfo) -> None:
        self.begun.append(attempt.id)

    def ended(self, attempt: AttemptInfo, *, ok: bool, result: str, runtime_s: float) -> None:
        self.over.append(attempt.id)


def drain(ledger):
    return engine.drain("compute", owner="w", observer=ledger, slice_s=60)


@pytest.fixture
def unhurried(monkeypatch):
    """Whatever steps take, they share their commits."""
    monkeypatch.setattr(engine, "LINGER_S", 60.0)
    monkeypatch.setattr(engine, "QUICK_S", 60.0)


@pytest.fixture
def before_work(monkeypatch):
    """Has something done before the tool of a step is called: ``before(held)``."""
    real, before = handlers.HANDLERS["tool"], []

    def handler(held):
        for one in before:
            one(held)
        return real(held)

    monkeypatch.setitem(handlers.HANDLERS, "tool", handler)
    return before.append


def at_work(count, do):
    """Do it when that many steps have begun."""
    begun = []

    def one(held):
        begun.append(held)
        if len(begun) == count:
            do()

    return one


def test_results_that_an_outage_keeps_from_being_recorded_are_held_no_longer(submit, settings, unhurried, before_work):
    settings.LEASE_S = 0.2
    runs, ledger = [submit([echo()]) for _ in range(8)], Ledger()
    with pytest.MonkeyPatch.context() as outage:

        def begin():
            lose_answer(outage, "complete", executed=False, times=1_000)
            lose_answer(outage, "lock_run", executed=False, times=1_000)

        before_work(at_work(6, begin))
        with pytest.raises(OperationalError):
            drain(ledger)

    assert leases.held() == []
    assert sorted(ledger.over) == sorted(ledger.begun)
    for run in runs:
        expire(run)
    sweeps.reap_expired()
    drain(ledger)
    assert [statuses(run) for run in runs] == [{"a": "succeeded"}] * 8


def test_what_ends_the_thread_lets_go_of_all_that_it_held(submit, unhurried, before_work):
    [submit([echo()]) for _ in range(8)]
    ledger = Ledger()

    def end():
        raise KeyboardInterrupt

    before_work(at_work(6, end))
    with pytest.raises(KeyboardInterrupt):
        drain(ledger)

    assert leases.held() == []
    assert sorted(ledger.over) == sorted(ledger.begun)
    _give_back_what_nobody_holds()


def _give_back_what_nobody_holds():
    sql("UPDATE runs_step SET claimed_at = claimed_at - interval '1 minute' WHERE lease_expires_at IS NOT NULL")
    leases.beat("w")
    assert value("SELECT count(*) FROM runs_step WHERE status = 'running'") == 0


def test_a_result_is_recorded_though_a_claim_could_not_be_given_back(submit, unhurried, before_work):
    runs = [submit([echo()]) for _ in range(15)]
    slow, go, ledger = threading.Event(), threading.Event(), Ledger()

    def wait():
        slow.set()
        assert go.wait(30)

    before_work(at_work(10, wait))  # of the batch of eight: two are done, five have not begun
    with background() as start, pytest.MonkeyPatch.context() as outage:
        drained = start(lambda: drain(ledger))
        try:
            assert slow.wait(30)
            lose_answer(outage, "lock_run", executed=False)
            until(lambda: _relieved() == 1)
            recorded = sum(statuses(run) == {"a": "succeeded"} for run in runs)
        finally:
            go.set()
        drained.result()

    assert recorded == 9
    assert sorted(ledger.over) == sorted(ledger.begun)
    _give_back_what_nobody_holds()


def test_claims_of_a_turn_that_is_relieved_in_a_long_outage_are_not_renewed_for_ever(
    submit, unhurried, before_work, monkeypatch
):
    """PostgreSQL is away for longer than anybody persists: neither the results nor their failure can be written."""
    for _ in range(15):
        submit([echo()])
    slow, go, ledger = threading.Event(), threading.Event(), Ledger()

    def wait():
        slow.set()
        assert go.wait(30)

    def away(*_args, **_how):
        raise DatabaseUnavailable

    before_work(at_work(5, wait))
    with background() as start:
        drained = start(lambda: drain(ledger))
        try:
            assert slow.wait(30)
            until(lambda: next(iter(engine._turns))._begun_at + engine.STUCK_S < time.monotonic())
            with monkeypatch.context() as outage:
                outage.setattr(complete, "complete_all", away)
                outage.setattr(moves, "fail", away)
                with pytest.raises(DatabaseUnavailable):
                    engine.relieve()
        finally:
            go.set()
        drained.result()

    assert leases.held() == []
    _give_back_what_nobody_holds()


@pytest.mark.parametrize("commit_s", [0.02, 0.15])
def test_slow_commits_are_shared_all_the_same_and_nothing_is_given_back_for_them(submit, monkeypatch, commit_s):
    """A commit that takes its time is no step that does."""
    real, commits = complete.complete_all, []

    def slow(done, **how):
        commits.append(len(done))
        time.sleep(commit_s)  # the slowness of PostgreSQL's disk
        return real(done, **how)

    runs = [submit([echo()]) for _ in range(100)]
    monkeypatch.setattr(complete, "complete_all", slow)
    reliever = Reliever()
    reliever.start()
    drain(Ledger())
    reliever.close()
    reliever.join(10)

    assert {status for run in runs for status in statuses(run).values()} == {"succeeded"}
    assert len(commits) < 30
    assert value("SELECT max(attempt) FROM runs_step") == 1


def _relieved():
    with suppress(OperationalError):
        engine.relieve()
    return len(leases.held())


def test_a_step_that_was_there_when_a_worker_died_joins_no_turn_with_others(submit, unhurried, before_work):
    """Or the results of its neighbours, which are still to be recorded, die with the process."""
    for _ in range(40):
        submit([echo()])
    beside = {}

    def crashed_before(held):
        if held.claim.run_id in beside:
            beside[held.claim.run_id] = len(leases.held()) - 1

    def arrive():
        late = submit([echo()], priority=10)
        beside[late.pk] = None
        sql("UPDATE runs_step SET crashes = 2 WHERE run_id = %s", late.pk)

    before_work(at_work(5, arrive))
    before_work(crashed_before)
    drain(Ledger())

    assert list(beside.values()) == [0]


def test_no_work_begins_in_a_run_that_is_known_to_stop(submit, unhurried, before_work):
    runs = {run.pk: run for run in (submit([echo()]) for _ in range(15))}
    begun = []

    def cancel():
        for held in leases.held():
            services.cancel(runs[held.claim.run_id])
        leases.beat("w")

    before_work(lambda held: begun.append(held.claim.run_id))
    before_work(at_work(9, cancel))
    drain(Ledger())

    assert len(begun) == 9
    assert sorted(run.status for run in map(_fresh, runs.values())) == ["cancelled"] * 8 + ["succeeded"] * 7


def _fresh(run):
    run.refresh_from_db()
    return run
