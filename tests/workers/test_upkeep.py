"""The housekeeper of a process: its parts do not stand in each other's way, and what it begins is bounded."""

import threading
import time

import pytest

from agentsys.core import procs
from agentsys.infrastructure import rollup
from agentsys.infrastructure.processes import wait_until
from agentsys.runs import engine, handlers, leases
from agentsys.runs.store.claims import Result, claim
from tests.support.rows import expire, sql
from tests.support.threads import background, until
from tests.support.worker import statuses
from workers import dispatch
from workers.election import Election
from workers.roster import WorkerRow
from workers.slices import Slices
from workers.upkeep import MAX_POLLERS, Housekeeper, Reliever

pytestmark = pytest.mark.usefixtures("transactional_db", "no_bell")
SLOTS = 16


class Hanging(Slices):
    """Turns that do not come back until told, and are not seen to be under way."""

    def __init__(self) -> None:
        super().__init__("compute", observer=None, is_stopping=lambda: False)  # type: ignore[arg-type]
        self.taken, self.go = threading.Semaphore(0), threading.Event()
        self.turns = 0

    def take(self) -> str:
        self.turns += 1
        self.taken.release()
        self.go.wait(30)
        return "went on"


@pytest.fixture
def slices():
    made = Hanging()
    yield made
    made.go.set()


@pytest.fixture
def housekeeper(slices, tmp_path):
    made = Housekeeper(
        slices,
        row=WorkerRow("compute", pid=procs.parse(procs.own_name()).pid, slots=SLOTS),
        slots=SLOTS,
        polling=Election(tmp_path / "poll"),
        sweeping=Election(tmp_path / "sweep"),
        is_stopping=lambda: False,
    )
    yield made
    slices.go.set()
    made.finish()


class Quiet:
    """An observer that looks away."""

    def started(self, attempt):
        pass

    def ended(self, attempt, *, ok, result, runtime_s):
        pass


@pytest.mark.promise("P11")
def test_a_pools_child_takes_one_turn_at_a_time_and_passes_on_the_bell_that_waits(submit, monkeypatch):
    """A step that was there when a worker died is done alone, also where a poll and a bell come together."""
    under_way, most, rung = [], [], []
    go = threading.Event()

    def call(held):
        under_way.append(held.claim.key)
        most.append(list(under_way))
        assert go.wait(30)
        under_way.remove(held.claim.key)
        return Result(1)

    monkeypatch.setitem(handlers.HANDLERS, "tool", call)
    monkeypatch.setattr(dispatch, "ring", lambda lanes: rung.append(lanes))
    run = submit([{"key": "suspect", "tool": "test.echo"}, {"key": "innocent", "tool": "test.echo"}])
    sql("UPDATE runs_step SET crashes = 1, fair_key = 0 WHERE key = 'suspect'")
    slices = Slices("compute", Quiet(), lambda: False, one_at_a_time=True)

    with background() as start:
        polled = start(slices.take)
        until(lambda: under_way == ["suspect"])
        belled = start(slices.take)
        until(lambda: rung == [["compute"]])
        assert slices.busy == 2
        go.set()
        assert "suspect" in polled.result()
        belled.result()

    assert most == [["suspect"], ["innocent"]]
    assert set(statuses(run).values()) == {"succeeded"}


def test_polls_that_hang_do_not_pile_up(submit, housekeeper, slices):
    submit([{"key": "a", "tool": "test.echo"}])
    sql("UPDATE runs_step SET ready_at = ready_at - interval '1 minute'")

    for _ in range(3 * MAX_POLLERS):
        housekeeper.tick()
    for _ in range(MAX_POLLERS):
        assert slices.taken.acquire(timeout=10)
    slices.go.set()
    housekeeper.finish()

    assert slices.turns == MAX_POLLERS


def test_whatever_fails_beside_the_sweeper_does_not_end_reaping(submit, housekeeper, monkeypatch, settings):
    settings.LEASE_S = 1.0
    run = submit([{"key": "a", "tool": "test.echo"}])
    claim("compute", owner="another-host:boot:1:1")
    expire(run)
    monkeypatch.setattr(rollup, "roll_up", lambda: sql("SELECT 1/0"))
    monkeypatch.setattr(WorkerRow, "tell", lambda self: sql("SELECT no_such_column"))
    monkeypatch.setattr("workers.upkeep.ROLL_UP_EVERY_S", 0.0)

    def reaped() -> bool:
        housekeeper._guarded_tick()  # as its thread calls it, only at once
        return statuses(run) == {"a": "ready"}

    assert wait_until(reaped, timeout_s=10)


class Elected:
    """An election that the test decides."""

    def __init__(self, won: bool) -> None:
        self.is_won = won

    def won(self) -> bool:
        return self.is_won

    def resign(self) -> None:
        pass


@pytest.mark.parametrize("away", [False, True])
def test_who_takes_over_from_a_frozen_sweeper_has_waited_already_unless_the_database_was_away(
    submit, housekeeper, settings, away
):
    settings.LEASE_S = 1.0
    run = submit([{"key": "a", "tool": "test.echo"}])
    claim("compute", owner="another-host:boot:1:1")
    expire(run)
    housekeeper._sweeping = elected = Elected(False)
    begun = time.monotonic()

    def has_waited() -> bool:
        housekeeper._guarded_tick()
        return time.monotonic() > begun + 2 * settings.LEASE_S

    assert wait_until(has_waited, timeout_s=10)
    assert statuses(run) == {"a": "running"}
    if away:
        housekeeper.database_is_away()
    elected.is_won = True
    housekeeper._guarded_tick()

    assert statuses(run) == {"a": "running" if away else "ready"}


def test_nothing_waits_for_a_slow_step(submit, worker, monkeypatch):
    for name in ("LINGER_S", "QUICK_S"):
        monkeypatch.setattr(engine, name, 60.0)
    for _ in range(15):
        submit([{"key": "a", "tool": "test.echo"}])
    go, begun, real = threading.Event(), [], handlers.HANDLERS["tool"]

    def handler(held):
        begun.append(held)
        assert len(begun) != 10 or go.wait(30)  # of a batch of eight it is the third
        return real(held)

    monkeypatch.setitem(handlers.HANDLERS, "tool", handler)
    reliever = Reliever()
    reliever.start()
    with background() as start:
        drained = start(lambda: worker.drain("compute"))
        try:
            until(lambda: len(begun) == 10 and len(leases.held()) == 1)
        finally:
            go.set()
        drained.result()
    reliever.close()
    reliever.join(10)

    assert not reliever.is_alive()
