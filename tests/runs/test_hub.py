"""Many who follow runs, and one who reads for them."""

import asyncio
import json
import os
import signal
import threading
import time
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import OperationalError

from agentsys.core import hints
from agentsys.core.ids import uuid7
from agentsys.infrastructure.processes import wait_until
from agentsys.runs import dispatch, hub, services, stream
from agentsys.runs.hub import Hub
from tests.support import wire
from tests.support.follow import Reading, encode, happen, in_thread
from tests.support.threads import until

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = [{"key": "a", "tool": "test.echo"}]
LONG_S = 60.0


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes must have come by a hint."""
    monkeypatch.setattr(hub, "POLL_S", LONG_S)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many places each look was for."""
    made: list[int] = []
    real = stream.news

    def news(places: Any) -> Any:
        made.append(len(places))
        return real(places)

    monkeypatch.setattr(stream, "news", news)
    return made


def listening(server: Any) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return client.pubsub_numsub(dispatch.CHANGED)[0][1] > 0


async def heard(server: Any) -> None:
    assert await in_thread(lambda: wait_until(lambda: listening(server), timeout_s=10))


def test_two_hundred_followers_of_fifty_runs_share_one_query_a_look(submit: Any, looks: Any) -> None:
    runs = [submit(STEPS) for _ in range(50)]

    async def follow() -> list[Reading]:
        ours = Hub(encode)
        readings = [Reading(ours, runs[n % 50].pk) for n in range(200)]
        for one in readings:
            await one.some()
        for run in runs:
            await in_thread(happen, run.pk, 3)
        for one in readings:
            await one.up_to(4)
            one.follower.close()
        return readings

    begun = time.monotonic()
    readings = asyncio.run(follow())

    assert all(one.seqs == [1, 2, 3, 4] for one in readings)
    assert len(looks) <= (time.monotonic() - begun) / hub.PAUSE_S + 2
    assert max(looks) <= 100  # a run has followers before its news and after them
    with wire.requests() as sent:
        stream.news([(run.pk, 0) for run in runs])
    assert len(sent) == 1


def test_followers_of_one_run_are_one_place_and_read_the_same_bytes(submit: Any, looks: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[Any]:
        ours = Hub(encode)
        followers = [ours.follow(run.pk, 0) for _ in range(200)]
        batches = [await one.take(10) for one in followers]
        for one in followers:
            one.close()
        return batches

    batches = asyncio.run(follow())

    assert {batch.content for batch in batches} == {encode(stream.events(run.pk)[0])}
    assert max(looks) <= 2  # those before their first event, those after it


@pytest.mark.promise("P19")
def test_whoever_comes_later_reads_the_past_without_gap_and_the_others_go_on(submit: Any) -> None:
    run = submit(STEPS)
    happen(run.pk, 1_000)

    async def follow() -> tuple[Reading, Reading, Reading]:
        ours = Hub(encode)
        front, late, middle = Reading(ours, run.pk, 1_001), Reading(ours, run.pk), Reading(ours, run.pk, 777)
        await late.some()
        await in_thread(happen, run.pk)
        await front.up_to(1_002)
        await middle.up_to(1_002)
        await late.up_to(1_002)
        for one in (front, late, middle):
            one.follower.close()
        return front, late, middle

    front, late, middle = asyncio.run(follow())

    assert front.seqs == [1_002]
    assert middle.seqs == [*range(778, 1_003)]
    assert late.seqs == [*range(1, 1_003)]


def test_a_follower_that_does_not_read_costs_one_batch_and_holds_nobody(submit: Any, looks: Any) -> None:
    run = submit(STEPS)

    async def follow() -> tuple[Reading, int, Reading]:
        ours = Hub(encode)
        slow, quick = Reading(ours, run.pk), Reading(ours, run.pk)
        for n in range(30):
            await in_thread(happen, run.pk, 40)
            await quick.up_to(1 + 40 * (n + 1))
        kept = slow.follower._batch.content.count(b"\n")  # type: ignore[union-attr]
        await slow.up_to(1_201)
        for one in (slow, quick):
            one.follower.close()
        return slow, kept, quick

    slow, kept, quick = asyncio.run(follow())

    assert kept <= stream.MAX_EACH
    assert slow.seqs == quick.seqs == [*range(1, 1_202)]


def test_a_hint_brings_an_event_long_before_a_poll_would(submit: Any, own_redis: Any, no_poll: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[float]:
        reading = await Reading(Hub(encode), run.pk).some()
        await heard(own_redis)
        waits = []
        for n in range(10):
            begun = time.monotonic()
            await in_thread(happen, run.pk)
            await reading.up_to(n + 2)
            waits.append(time.monotonic() - begun)
        reading.follower.close()
        return waits

    assert sorted(asyncio.run(follow()))[5] < 0.5


def test_without_redis_events_come_by_polling(submit: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(hub, "POLL_S", 0.1)
    run = submit(STEPS)

    async def follow() -> list[int]:
        reading = await Reading(Hub(encode), run.pk).some()
        await in_thread(happen, run.pk, 5)
        await reading.up_to(6)
        reading.follower.close()
        return reading.seqs

    assert asyncio.run(follow()) == [*range(1, 7)]


def test_hints_are_heard_again_when_redis_is_back_and_what_was_missed_is_read_at_once(
    submit: Any, own_redis: Any, no_poll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "RETRY_S", 0.1)
    run = submit(STEPS)

    async def follow() -> list[int]:
        reading = await Reading(Hub(encode), run.pk).some()
        await heard(own_redis)
        assert await reading.nothing(0.3)  # the look that follows a connection is over
        os.kill(own_redis.pid, signal.SIGKILL)
        assert await in_thread(lambda: wait_until(lambda: not own_redis.alive(), timeout_s=5))
        await in_thread(happen, run.pk)
        assert await reading.nothing(0.3)
        await in_thread(own_redis.start)
        await reading.up_to(2)
        await heard(own_redis)
        await in_thread(happen, run.pk)
        await reading.up_to(3)
        reading.follower.close()
        return reading.seqs

    assert asyncio.run(follow()) == [1, 2, 3]


FORGED = [
    b"", b"\x00\xff", b"null", b"{}", b"[[]]", b"[1, null, {}]", b'["", "no id", "\\u0000", "\\ud800"]',
    b"[" * 100_000, json.dumps([str(uuid7()) for _ in range(5_000)]).encode(),
]  # fmt: skip


def test_forged_hints_make_us_look_and_show_nothing(submit: Any, own_redis: Any, no_poll: Any, looks: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[int]:
        reading = await Reading(Hub(encode), run.pk).some()
        await heard(own_redis)
        with redis.Redis.from_url(own_redis.url) as forger:
            for channel in (dispatch.CHANGED, dispatch.DELTAS):
                for message in FORGED:
                    forger.publish(channel, message)
            for _ in range(1_000):
                forger.publish(dispatch.CHANGED, json.dumps([str(run.pk)]))
        assert await reading.nothing(0.5)
        await in_thread(happen, run.pk)
        await reading.up_to(2)
        reading.follower.close()
        return reading.seqs

    begun = time.monotonic()
    assert asyncio.run(follow()) == [1, 2]
    assert len(looks) <= (time.monotonic() - begun) / hub.PAUSE_S + 2


def test_an_end_is_told_however_it_comes(submit: Any, worker: Any) -> None:
    ended, cancelled, gone = worker.finish(submit(STEPS)), submit(STEPS), uuid7()
    services.cancel(cancelled)

    async def follow() -> list[Reading]:
        ours = Hub(encode)
        readings = [Reading(ours, run_id) for run_id in (ended.pk, cancelled.pk, gone)]
        readings.append(Reading(ours, ended.pk, 1_000))
        for one in readings:
            await one.some()
            one.follower.close()
        return readings

    readings = asyncio.run(follow())

    assert all(one.over for one in readings)
    assert [one.seen[-1]["type"] for one in readings[:2]] == ["run.succeeded", "run.cancelled"]
    assert [one.seen for one in readings[2:]] == [[], []]


def test_what_a_model_says_reaches_those_who_follow_its_run_and_is_kept_nowhere(
    submit: Any, own_redis: Any, no_poll: Any
) -> None:
    run, other = submit(STEPS), submit(STEPS)

    async def follow() -> tuple[Reading, bool]:
        ours = Hub(encode)
        mine, theirs = await Reading(ours, run.pk).some(), await Reading(ours, other.pk).some()
        await heard(own_redis)
        for n, text in enumerate(["to", " be", " or", " be"]):
            dispatch.delta(run.pk, "a", n, {"text": text})
        dispatch.delta(run.pk, "a", 4, {"text": "x" * hub.MAX_DELTA_CHARS})
        while len(mine.seen) < 5:
            await mine.some()
        silent = await theirs.nothing(0.2) and await mine.nothing(0.0)
        for one in (mine, theirs):
            one.follower.close()
        return mine, silent

    mine, silent = asyncio.run(follow())

    assert silent
    assert [event["data"]["text"] for event in mine.seen[1:]] == ["to", " be", " or", " be"]
    assert {(event["type"], "seq" in event) for event in mine.seen[1:]} == {("model.delta", False)}
    assert [event["seq"] for event in stream.events(run.pk)] == [1]


def test_deltas_for_a_slow_reader_are_bounded(submit: Any, own_redis: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[int]:
        reading = await Reading(Hub(encode), run.pk).some()
        await heard(own_redis)
        for n in range(hub.MAX_DELTAS * 3):
            dispatch.delta(run.pk, "a", n, {})
        last = hub.MAX_DELTAS * 3 - 1
        kept = reading.follower._deltas
        while not kept or json.loads(kept[-1])["n"] < last:
            await asyncio.sleep(0.01)
        await reading.some()
        reading.follower.close()
        return [event["n"] for event in reading.seen[1:]]

    assert asyncio.run(follow()) == [*range(hub.MAX_DELTAS * 2, hub.MAX_DELTAS * 3)]


def test_while_postgresql_is_away_followers_wait(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RETRY_S", 0.05)
    run, real, tries = submit(STEPS), stream.news, []

    def away(places: Any) -> Any:
        tries.append(places)
        if len(tries) < 4:
            raise OperationalError("the connection is closed")
        return real(places)

    monkeypatch.setattr(stream, "news", away)

    async def follow() -> list[int]:
        reading = await Reading(Hub(encode), run.pk).some()
        reading.follower.close()
        return reading.seqs

    assert (asyncio.run(follow()), len(tries)) == ([1], 4)


def test_when_nobody_follows_any_more_nothing_looks_and_nothing_listens(
    submit: Any, own_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "POLL_S", 0.1)
    run = submit(STEPS)

    async def follow(ours: Hub) -> None:
        reading = await Reading(ours, run.pk).some()
        await heard(own_redis)
        reading.follower.close()

    ours = Hub(encode)
    for _ in range(2):  # and again: it begins anew
        asyncio.run(follow(ours))
        until(lambda: ours._looks is None and ours._hears is None)
        assert wait_until(lambda: not listening(own_redis), timeout_s=5)


def test_a_follower_whose_event_loop_has_ended_is_forgotten(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "POLL_S", 0.05)
    run = submit(STEPS)
    ours = Hub(encode)

    async def begin() -> None:
        await Reading(ours, run.pk).some()

    asyncio.run(begin())
    happen(run.pk)

    until(lambda: not ours._followers and ours._looks is None)


def test_hints_cost_one_message_however_many_are_posted(own_redis: Any) -> None:
    told: list[list[str]] = []
    listener = hints.Listener(["test:many"], lambda _, items: told.append(items))
    listener.start()
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        assert wait_until(lambda: client.pubsub_numsub("test:many")[0][1] == 1, timeout_s=10)

    begun = time.monotonic()
    for n in range(5_000):
        hints.post("test:many", f"run-{n % 7}")
    hints.post("test:many", "last")
    until(lambda: any("last" in items for items in told))
    listener.close()

    assert len(told) <= (time.monotonic() - begun) / hints.LINGER_S + 2
    assert all(len(items) == len(set(items)) for items in told)
    listener.join(5)
    assert not listener.is_alive()


def test_a_forked_child_posts_hints_of_its_own(own_redis: Any) -> None:
    told = threading.Event()
    listener = hints.Listener(["test:fork"], lambda _, items: told.set())
    listener.start()
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        assert wait_until(lambda: client.pubsub_numsub("test:fork")[0][1] == 1, timeout_s=10)
    hints.post("test:other", "the parent's thread and client are there")
    child = os.fork()
    if child == 0:  # no pytest in here
        try:
            hints.post("test:fork", "from the child")
            time.sleep(0.5)  # it has no other thread to wait for
        finally:
            os._exit(0)

    assert told.wait(10)
    os.waitpid(child, 0)
    listener.close()
