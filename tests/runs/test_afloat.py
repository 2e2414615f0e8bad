"""Calls that wait on the event loop hold no thread; what comes of them is recorded as ever."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError

from agentsys.core.errors import ToolFailed, ToolUnavailable
from agentsys.runs import engine, leases, services
from agentsys.runs.models import Step
from agentsys.runs.store import claims, moves
from agentsys.tools import registry, tool
from tests.support.threads import background, until
from tests.support.worker import Watcher, statuses

pytestmark = pytest.mark.usefixtures("transactional_db", "no_bell")


rung: list[str] = []


def ring(lanes):
    rung.extend(lanes)


class Server:
    """Something slow, that answers when told to."""

    def __init__(self) -> None:
        self.go, self.asked, self.answer = threading.Event(), 0, lambda: "ok"

    async def call(self) -> str:
        self.asked += 1
        while not self.go.is_set():
            await asyncio.sleep(0.005)
        return self.answer()


@pytest.fixture
def server(monkeypatch):
    registry.load()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))
    slow = Server()

    @tool(effect="pure", lane="network", name="slow.read", timeout_s=30)
    async def read() -> str:
        """Read slowly."""
        return await slow.call()

    @tool(effect="unsafe", lane="network", name="slow.write", timeout_s=30)
    async def write() -> str:
        """Write slowly."""
        return await slow.call()

    @tool(effect="pure", lane="network", name="slow.fail", timeout_s=30)
    async def fail() -> str:
        """Fail slowly."""
        await slow.call()
        raise ToolFailed("no")

    yield slow
    slow.go.set()


@pytest.fixture
def afloat():
    made = engine.floating(50)
    yield made
    assert made.wait_until_empty(20)


@pytest.fixture
def drain(afloat):
    watcher = Watcher()

    def drained(*, room=afloat):
        return engine.drain("network", owner="worker-a", observer=watcher, slice_s=20, afloat=room)

    drained.watcher = watcher
    return drained


def step(key: str = "a", tool: str = "slow.read", **fields):
    return {"key": key, "tool": tool, **fields}


def test_one_thread_has_many_calls_under_way(submit, server, afloat, drain):
    runs = [submit([step()]) for _ in range(20)]

    assert drain() == 20

    assert [statuses(run) for run in runs] == [{"a": "running"}] * 20
    until(lambda: server.asked == 20)
    assert afloat.count == 20
    assert len(leases.held()) == 20  # the heartbeat keeps them
    server.go.set()
    assert afloat.wait_until_empty(10)
    assert [statuses(run) for run in runs] == [{"a": "succeeded"}] * 20
    assert leases.held() == []
    assert [ok for *_, ok in drain.watcher.attempts] == [True] * 20


def test_what_follows_runs_as_ever(submit, server, afloat, drain):
    run = submit([step(), step("b", "test.far", arguments={"value": "${a}"})], answer="${b}")
    drain()
    server.go.set()
    assert afloat.wait_until_empty(10)

    drain()

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", "ok")


def test_a_call_that_is_over_at_once_keeps_its_thread(submit, server, afloat, drain):
    server.go.set()
    run = submit([step(), step("b", depends_on=["a"])])

    drain()

    run.refresh_from_db()
    assert (run.status, afloat.count) == ("succeeded", 0)


def test_no_more_than_there_are_places_and_the_rest_is_rung_for(submit, server, drain, settings):
    settings.DISPATCHER = f"{__name__}.ring"
    runs, room = [submit([step()]) for _ in range(5)], engine.floating(2)
    rung.clear()

    assert drain(room=room) == 2
    assert drain(room=room) == 0

    assert sorted(statuses(run)["a"] for run in runs) == ["ready"] * 3 + ["running"] * 2
    server.go.set()
    assert room.wait_until_empty(10)
    until(lambda: "network" in rung)
    until(lambda: (drain(room=room), {statuses(run)["a"] for run in runs} == {"succeeded"})[1])
    assert room.wait_until_empty(10)
    assert [statuses(run) for run in runs] == [{"a": "succeeded"}] * 5


def test_a_step_with_a_thread_has_a_place_too(submit, server, drain):
    room, far = engine.floating(1), submit([step("b", "test.far")])
    slow = submit([step()])
    with background() as start:
        assert room.enter(1, "network") == 1  # as a step of another thread
        drained = start(lambda: drain(room=room))
        assert drained.result() == 0
        room.leave()
        assert start(lambda: drain(room=room)).result() == 2
    assert (statuses(far), statuses(slow)) == ({"b": "succeeded"}, {"a": "running"})
    server.go.set()
    assert room.wait_until_empty(10)


@pytest.mark.parametrize("told", ["lost", "cancelled"])
def test_a_step_that_is_not_ours_any_more_when_its_turn_comes_is_not_begun(submit, server, drain, told, monkeypatch):
    room, run, hold = engine.floating(1), submit([step()]), leases.hold

    def told_at_once(claim):
        held = hold(claim)
        setattr(held, told, True)
        return held

    monkeypatch.setattr(leases, "hold", told_at_once)
    more = iter([False])  # one look, for it is given back and ready again

    engine.drain(
        "network", owner="worker-a", observer=drain.watcher, slice_s=20, stopping=lambda: next(more, True), afloat=room
    )

    assert (server.asked, drain.watcher.attempts, statuses(run)) == (0, [], {"a": "ready"})
    assert leases.held() == []
    assert room.enter(2, "network") == 1  # its place is free


def test_a_call_that_fails_is_tried_again(submit, server, afloat, drain, worker):
    def unavailable():
        server.answer = lambda: "ok"
        raise ToolUnavailable("not yet")

    server.answer = unavailable
    run = submit([step()])
    drain()
    server.go.set()
    assert afloat.wait_until_empty(10)
    assert statuses(run) == {"a": "sleeping"}

    assert worker.finish(run).status == "succeeded"
    assert list(run.attempts.values_list("outcome", flat=True)) == ["sleeping", "succeeded"]


def test_a_failure_that_cannot_be_written_keeps_no_other_from_its_record(submit, server, afloat, drain, monkeypatch):
    """As after an absence of PostgreSQL that was longer than anybody persists."""
    good, bad = submit([step()]), submit([step("b", "slow.fail")])

    def away(*_args):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(moves, "fail", away)
    drain()
    until(lambda: server.asked == 2)
    server.go.set()
    assert afloat.wait_until_empty(10)

    assert statuses(good) == {"a": "succeeded"}
    assert statuses(bad) == {"b": "running"}
    assert leases.held() == []  # what nobody will record is not renewed for ever


def test_what_cannot_be_recorded_is_not_renewed_for_ever(submit, server, afloat, drain, monkeypatch):
    runs = [submit([step()]) for _ in range(3)]
    drain()

    def broken(*_args, **_how):
        raise SystemError("out of memory")

    monkeypatch.setattr(engine, "_record", broken)
    until(lambda: server.asked == 3)
    server.go.set()
    assert afloat.wait_until_empty(10)

    assert [statuses(run) for run in runs] == [{"a": "running"}] * 3
    assert leases.held() == []


def test_a_late_result_is_fenced(submit, server, afloat, drain, worker):
    run = submit([step()])
    drain()
    held = Step.objects.get(run=run)
    moves.give_back(held.id, run.id, held.claim_token, why="dead")

    server.go.set()
    assert afloat.wait_until_empty(10)

    assert statuses(run) == {"a": "ready"}
    assert worker.finish(run).status == "succeeded"
    assert list(run.attempts.values_list("outcome", flat=True)) == ["crashed", "succeeded"]


@pytest.mark.parametrize(("tool", "status"), [("slow.read", "cancelled"), ("slow.write", "cancelled")])
def test_a_cancel_ends_it(submit, server, afloat, drain, tool, status):
    run = submit([step(tool=tool)])
    drain()
    until(lambda: server.asked == 1)
    services.cancel(run)

    begun = time.monotonic()
    leases.beat("worker-a")
    until(lambda: leases.cut_off() or not leases.held())

    assert time.monotonic() - begun < 5
    run.refresh_from_db()
    assert (run.status, statuses(run)) == (status, {"a": "cancelled"})


def test_an_unsafe_call_is_made_once(submit, server, afloat, drain):
    run = submit([step(tool="slow.write")])
    drain()
    assert Step.objects.get(run=run).effect_started_at is not None
    server.go.set()
    assert afloat.wait_until_empty(10)

    run.refresh_from_db()
    assert (run.status, server.asked) == ("succeeded", 1)


def test_no_more_is_claimed_than_there_are_places_however_many_threads_look(submit, server, drain):
    runs, room = [submit([step()]) for _ in range(12)], engine.floating(5)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: drain(room=room), range(8)))

        assert [statuses(run)["a"] for run in runs].count("running") == 5
        assert (len(leases.held()), room.count) == (5, 5)
    server.go.set()
    assert room.wait_until_empty(10)
    assert room.enter(6, "network") == 5


def test_places_that_are_taken_for_nothing_are_given_back(submit, drain):
    room, run = engine.floating(4), submit([step("b", "test.far")])

    assert (drain(room=room), statuses(run)) == (1, {"b": "succeeded"})
    assert drain(room=room) == 0  # nothing is due

    assert room.enter(9, "network") == 4


def test_places_are_given_back_where_a_claim_fails(submit, server, drain, monkeypatch):
    room = engine.floating(4)
    submit([step()])

    def away(*_args, **_how):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(claims, "claim_some", away)
    with pytest.raises(OperationalError):
        drain(room=room)

    assert room.enter(9, "network") == 4


def test_who_finds_no_place_has_them_refilled_and_others_told(settings):
    settings.DISPATCHER = f"{__name__}.ring"
    refilled = []
    room = engine.floating(2, refill=refilled.extend)
    rung.clear()
    assert room.enter(3, "network") == 2

    assert [room.enter(1, "network") for _ in range(5)] == [0] * 5

    assert rung == ["network"]  # others, once for a while
    room.leave(2)
    room.leave(0)
    assert refilled == ["network"]
