"""The event loop that worker threads share."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentsys.core import loop
from agentsys.core.errors import StepCancelled, StepTimeout


async def _loop_of() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_all_threads_of_a_process_share_one_loop():
    with ThreadPoolExecutor(8) as pool:
        loops = set(pool.map(lambda _: loop.run(_loop_of(), timeout_s=5), range(32)))

    assert len(loops) == 1


def test_a_result_and_an_exception_come_back_to_the_caller():
    async def fail():
        raise KeyError("mine")

    assert loop.run(asyncio.sleep(0, "value"), timeout_s=5) == "value"
    with pytest.raises(KeyError, match="mine"):
        loop.run(fail(), timeout_s=5)


def test_what_takes_too_long_is_cancelled():
    ended = threading.Event()

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(StepTimeout):
        loop.run(forever(), timeout_s=0.05)

    assert ended.wait(5)


def test_a_timeout_of_the_coroutine_itself_is_not_the_deadline():
    async def gives_up():
        raise TimeoutError("my own")

    with pytest.raises(TimeoutError, match="my own"):
        loop.run(gives_up(), timeout_s=5)


def test_a_coroutine_that_ignores_its_cancellation_holds_nobody(monkeypatch):
    monkeypatch.setattr(loop, "GRACE_S", 0.1)
    release = threading.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue

    began = time.monotonic()
    with pytest.raises(StepTimeout):
        loop.run(stubborn(), timeout_s=0.05)
    assert time.monotonic() - began < 3
    release.set()


def test_waiting_on_the_loops_own_thread_is_refused_instead_of_hanging():
    async def nested():
        return loop.run(_loop_of(), timeout_s=5)

    with pytest.raises(RuntimeError, match="await"):
        loop.run(nested(), timeout_s=5)


def test_a_forked_child_has_a_loop_of_its_own():
    ours = id(loop.run(_loop_of(), timeout_s=5))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # no pytest in here: nothing but the one call and the way out
        try:
            theirs = loop.run(_loop_of(), timeout_s=5)
            os.write(writer, b"same" if id(theirs) == ours else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)

    assert (os.waitstatus_to_exitcode(status), os.read(reader, 10)) == (0, b"other")
    os.close(reader)
    assert id(loop.run(_loop_of(), timeout_s=5)) == ours


def test_after_a_stop_the_next_call_starts_another_loop():
    cancelled = threading.Event()

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    first = loop.run(_loop_of(), timeout_s=5)
    future = loop.submit(waits())
    loop.run(asyncio.sleep(0), timeout_s=5)
    loop.stop()

    assert cancelled.wait(5)
    assert future.cancelled() or future.done()
    assert loop.run(_loop_of(), timeout_s=5) is not first


def test_a_thousand_calls_wait_at_the_same_time():
    together = asyncio.Barrier(1_000)

    async def arrive():
        await together.wait()
        return 1

    futures = [loop.submit(arrive()) for _ in range(1_000)]

    assert sum(future.result(20) for future in futures) == 1_000


def _stopped_once_it_runs(stop, coroutine_of):
    """What a covered call raises when its stop is set from another thread in the middle of it."""
    running = threading.Event()
    setter = threading.Thread(target=lambda: running.wait(5) and stop.set())
    setter.start()
    try:
        with stop.covering():
            return loop.run(coroutine_of(running), timeout_s=30)
    finally:
        setter.join()


def test_a_stop_ends_the_call_under_way_and_those_that_come_later():
    stop, ended = loop.Stop(), threading.Event()

    async def forever(running):
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    begun = time.monotonic()
    with pytest.raises(StepCancelled):
        _stopped_once_it_runs(stop, forever)
    assert ended.wait(5)
    with pytest.raises(StepCancelled), stop.covering():
        loop.run(asyncio.sleep(30), timeout_s=60)
    assert time.monotonic() - begun < 10

    assert loop.run(asyncio.sleep(0, "not covered any more"), timeout_s=5) == "not covered any more"


def test_a_stop_ends_only_the_calls_of_its_own_thread():
    ours, theirs = loop.Stop(), loop.Stop()

    def wait_under(stop):
        with stop.covering():
            return loop.run(asyncio.sleep(0.3, "done"), timeout_s=5)

    with ThreadPoolExecutor(2) as pool:
        mine, other = pool.submit(wait_under, ours), pool.submit(wait_under, theirs)
        ours.set()
        with pytest.raises(StepCancelled):
            mine.result(5)
        assert other.result(5) == "done"


def test_a_call_that_was_done_before_its_stop_keeps_its_result():
    stop = loop.Stop()
    with stop.covering():
        result = loop.run(asyncio.sleep(0, "done"), timeout_s=5)
    stop.set()

    assert result == "done"


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [
        (7.99963, "8 s"),
        (8, "8 s"),
        (0.05, "0.05 s"),
        (0.0, "0 s"),
        (1.26, "1.3 s"),
        (86_400.0, "86400 s"),
        (0.9996, "1 s"),
    ],
)
def test_a_duration_is_told_without_its_crumbs(duration_s, said):
    assert loop.seconds(duration_s) == said
