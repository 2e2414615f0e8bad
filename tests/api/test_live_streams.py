"""Event streams of a real web process: many, resumed, slow, without Redis, and of members who leave."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import psutil
import pytest

from agentsys.accounts.models import Membership
from agentsys.api import streams
from agentsys.infrastructure.embedded import scratch
from agentsys.infrastructure.processes import wait_until
from agentsys.runs import hub, services
from agentsys.runs.models import Run
from tests.support.follow import happen, in_thread
from tests.support.live_web import START_S, EventReader, LiveWeb
from tests.support.rows import value

T = TypeVar("T")
pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
STEPS = [{"key": "a", "tool": "test.echo"}]
MANY, RUNS = 200, 50
#: An idle connection of PostgreSQL tells what it has done within 10 s.
SETTLED_S = 11.0


@pytest.fixture
def web(own_redis: Any, transactional_db: None) -> Iterator[LiveWeb]:
    with scratch() as folder:
        server = LiveWeb(folder, redis_url=own_redis.url)
        server.start()
        assert wait_until(server.answers, timeout_s=START_S, every_s=0.1), server.log.read_text()
        yield server
        server.send_group(signal.SIGKILL)
        server.wait(5)


@pytest.fixture
def reader_of(web: LiveWeb, viewer: Any) -> Callable[..., EventReader]:
    token = viewer._credentials["HTTP_AUTHORIZATION"]

    def make(run: Run, *, after: int = 0, **how: Any) -> EventReader:
        headers = {"Authorization": token} | ({"Last-Event-ID": str(after)} if after else {})
        return EventReader(web, f"/api/v1/runs/{run.pk}/events", headers, **how)

    return make


def play(scene: Coroutine[Any, Any, T]) -> T:
    """Run it, and close every stream that it opened."""

    async def closing() -> T:
        try:
            return await scene
        finally:
            await EventReader.close_all()

    return asyncio.run(closing())


def transactions() -> int:
    value("SELECT pg_stat_clear_snapshot()::text")
    return int(value("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"))


async def counted_while_silent(for_s: float) -> int:
    """Transactions of everybody; those of this process are two."""
    before = await in_thread(transactions)
    await asyncio.sleep(for_s)
    return await in_thread(transactions) - before


@pytest.mark.parametrize("runs", [1, RUNS])
def test_many_streams_cost_a_few_queries_and_each_has_every_event(
    submit: Any, reader_of: Any, web: LiveWeb, runs: int, record_property: Any
) -> None:
    made = [submit(STEPS) for _ in range(runs)]
    silent_s, rounds = 6.0, 20

    async def follow() -> tuple[list[EventReader], int, int, float]:
        readers = [await reader_of(made[n % runs]).open() for n in range(MANY)]
        await asyncio.gather(*(one.up_to(1) for one in readers))
        await asyncio.sleep(SETTLED_S)
        silent = await counted_while_silent(silent_s)
        before, begun = await in_thread(transactions), time.monotonic()
        for _ in range(rounds):
            await in_thread(happen, made[0].pk, 2)
        await asyncio.gather(*(one.up_to(1 + 2 * rounds) for one in readers[::runs]))
        took_s = time.monotonic() - begun
        await asyncio.sleep(2.0)
        busy = await in_thread(transactions) - before
        for run in made:
            await in_thread(services.cancel, run)
        await asyncio.gather(*(one.to_the_end() for one in readers))
        return readers, silent, busy, took_s

    readers, silent, busy, took_s = play(follow())

    record_property("transactions", {"silent": silent, "busy": busy, "busy_s": took_s})
    assert 0 < silent < 100  # a poll in 2 s and a question in 2.5: 20 to 40; each stream by itself would make 600
    assert busy < 3 * rounds + (took_s + 2) / hub.PAUSE_S + 40
    for one in readers:
        assert one.seqs == [*range(1, len(one.seqs) + 1)]
        assert one.events[-1]["type"] == "run.cancelled"


def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(submit: Any, reader_of: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[int]:
        seen: list[int] = []
        for n in range(1, 6):
            reader = await reader_of(run, after=seen[-1] if seen else 0).open()
            for _ in range(5):
                await in_thread(happen, run.pk, 4)
            await reader.up_to(n * 20 - 5)
            await reader.close()
            seen += reader.seqs
        return seen

    seen = play(follow())

    assert seen == [*range(1, seen[-1] + 1)]


def test_readers_outlive_the_loss_of_redis(submit: Any, reader_of: Any, own_redis: Any) -> None:
    run = submit(STEPS)

    async def follow() -> tuple[EventReader, float, float]:
        reader = await (await reader_of(run).open()).up_to(1)
        os.kill(own_redis.pid, signal.SIGKILL)
        assert await in_thread(lambda: wait_until(lambda: not own_redis.alive(), timeout_s=5))
        begun = time.monotonic()
        await in_thread(happen, run.pk)
        await reader.up_to(2)
        without_s = time.monotonic() - begun
        await in_thread(own_redis.start)
        await asyncio.sleep(2.5)  # both sides have found it again
        waits = []
        for n in range(5):
            begun = time.monotonic()
            await in_thread(happen, run.pk)
            await reader.up_to(3 + n)
            waits.append(time.monotonic() - begun)
        return reader, without_s, sorted(waits)[2]

    reader, without_s, with_s = play(follow())

    assert reader.seqs == [*range(1, 8)]
    assert without_s < hub.POLL_S + 2
    assert with_s < 1.0


def test_a_reader_that_stops_reading_is_cut_off_and_costs_no_memory(
    submit: Any, reader_of: Any, web: LiveWeb, record_property: Any
) -> None:
    run = submit(STEPS)
    rounds, pad = 20, 2_000  # 8 MB: more than the kernel keeps for a connection
    last = 1 + rounds * 200

    async def follow() -> tuple[list[EventReader], EventReader, float, EventReader]:
        quick = await (await reader_of(run).open()).up_to(1)
        stopped = [await (await reader_of(run, buffer_bytes=4096).open()).up_to(1) for _ in range(20)]
        before = memory_mb(web)
        for n in range(rounds):
            await in_thread(lambda: happen(run.pk, 200, pad=pad))
            await quick.up_to(1 + 200 * (n + 1))
        grown = memory_mb(web) - before
        await asyncio.sleep(streams.STALLED_S + 2)
        for one in stopped:
            await one.to_the_end()
        again = await (await reader_of(run, after=stopped[0].seqs[-1]).open()).up_to(last)
        return stopped, quick, grown, again

    stopped, quick, grown, again = play(follow())

    assert quick.seqs == [*range(1, last + 1)]
    assert stopped[0].seqs[-1] < last
    assert all(one.ended and one.seqs == [*range(1, len(one.seqs) + 1)] for one in stopped)
    assert [*stopped[0].seqs, *again.seqs] == quick.seqs
    record_property("cut_off", {"grown_mb": grown, "at": stopped[0].seqs[-1], "of": last})
    assert grown < 100


def memory_mb(web: LiveWeb) -> float:
    main = psutil.Process(web.pid)
    return sum(one.memory_info().rss for one in [main, *main.children(recursive=True)]) / 1e6


def test_a_member_who_is_removed_reads_no_further_within_seconds(submit: Any, reader_of: Any) -> None:
    run = submit(STEPS)

    async def follow() -> tuple[EventReader, float]:
        reader = await (await reader_of(run).open()).up_to(1)
        await in_thread(lambda: Membership.objects.all().delete())
        begun = time.monotonic()
        await reader.to_the_end()
        refused = await reader_of(run, after=1).open()
        assert refused.status in (401, 403, 404)
        return reader, time.monotonic() - begun

    reader, took_s = play(follow())

    assert reader.seqs == [1]
    assert took_s < 2 * streams.CHECK_S + 2
