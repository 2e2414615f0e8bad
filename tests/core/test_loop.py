"""The event loop that worker threads share."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentsys.core import loop
from agentsys.core.errors import StepTimeout


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
