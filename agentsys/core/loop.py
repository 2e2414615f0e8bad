"""One event loop a process, on a thread of its own.

Worker threads hand their coroutines to it: clients of HTTP and of model providers belong to one
loop, and thousands of calls wait on it at the price of one thread.  A forked child does not inherit
the thread, so it starts a loop of its own; a client must be made anew for each loop.
"""

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from agentsys.core.errors import StepCancelled, StepTimeout

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Threads for what has no asynchronous form, which is resolving names: one slow server must not stop all.
RESOLVER_THREADS = 32
#: How much later than the loop itself a caller gives up, in seconds; only a blocked loop costs it.
GRACE_S = 5.0

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


class Stop:
    """Ends, from any thread, the calls that another thread makes on the loop while it is covered by this."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self.is_set = False

    def set(self) -> None:
        """Cancel what is under way; what is begun later ends at once."""
        with self._lock:
            self.is_set = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    @contextmanager
    def covering(self) -> Iterator[None]:
        """Within, calls of this thread are under this stop, however deep they are made."""
        token = _stop.set(self)
        try:
            yield
        finally:
            _stop.reset(token)

    def watch(self, call: "Future[Any]") -> None:
        """Have a call ended with this stop, until it is over."""
        with self._lock:
            self._calls.add(call)
        call.add_done_callback(self._forget)
        if self.is_set:
            call.cancel()

    def _forget(self, call: "Future[Any]") -> None:
        with self._lock:
            self._calls.discard(call)


#: Never set, for threads that work for no step.
_stop: ContextVar[Stop] = ContextVar("stop", default=Stop())  # noqa: B039 - it holds calls by themselves only


class Waiting(Generic[T]):
    """A coroutine under way on the process's loop, under the stop that covered the thread that started it."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> None:
        """
        Raises:
            RuntimeError: called on the loop's own thread.
        """
        _refuse_own_thread(coroutine)
        self._timeout_s = timeout_s
        self._future = submit(_bounded(coroutine, timeout_s))
        self._stop = _stop.get()
        self._stop.watch(self._future)

    def is_over(self, *, within_s: float) -> bool:
        """Wait for its end, but no longer than this."""
        return self._future.done() or (within_s > 0 and bool(futures.wait((self._future,), within_s).done))

    def then(self, call: Callable[[], object]) -> None:
        """Have ``call`` called once it is over, on any thread; it must be quick."""
        self._future.add_done_callback(lambda _: call())

    def result(self) -> T:
        """Wait for what it returns or raises.

        Raises:
            StepTimeout: it took longer; the coroutine has been cancelled.
            StepCancelled: so it has, because the stop was set.
        """
        try:
            return self._future.result(self._timeout_s + GRACE_S)
        except CancelledError:
            if self._stop.is_set:
                raise StepCancelled from None
            raise
        except FutureTimeout:
            # In 3.11 this is the built-in TimeoutError, so the coroutine may have raised it.
            if self._future.done():
                raise
            raise StepTimeout(f"No result after {seconds(self._timeout_s)}.", timeout_s=self._timeout_s) from None
        finally:
            self._future.cancel()  # of no effect on one that is over


def run(coroutine: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
    """Run a coroutine on the process's loop and wait for its result, from any other thread.

    Raises:
        StepTimeout: it took longer; the coroutine has been cancelled.
        StepCancelled: so it has, because the thread's :class:`Stop` was set.
        RuntimeError: called on the loop's own thread, where waiting would hang.
    """
    return Waiting(coroutine, timeout_s).result()


def submit(coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
    """Start a coroutine on the process's loop without waiting.  Cancelling the future cancels it.

    Raises:
        RuntimeError: called on the loop's own thread, where waiting for the future would hang.
    """
    _refuse_own_thread(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, _running())


def seconds(duration_s: float) -> str:
    """A duration for people: what is left of a time is never a round number."""
    return f"{round(duration_s, 1 if duration_s >= 1 else 3):g} s"


def _refuse_own_thread(coroutine: Coroutine[Any, Any, Any]) -> None:
    if _thread is threading.current_thread():
        coroutine.close()
        raise RuntimeError("Already on the event loop: await the coroutine.")


async def _bounded(coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if limit.expired():
            raise StepTimeout(f"No result after {seconds(timeout_s)}.", timeout_s=timeout_s) from None
        raise


def _running() -> asyncio.AbstractEventLoop:
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _loop.set_default_executor(ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="agentsys-resolve"))
            _thread = threading.Thread(target=_serve, args=(_loop,), name="agentsys-loop", daemon=True)
            _thread.start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while not _ran(loop):
            logger.error("a coroutine tried to end the process; only its own call ends")
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


def _ran(loop: asyncio.AbstractEventLoop) -> bool:
    """Serve until stopped; False when a task's SystemExit broke the loop, which may simply go on."""
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt):
        return False
    return True


def stop(*, timeout_s: float = 2.0) -> None:
    """Cancel what runs and end the loop; the next ``run`` starts another.  Never raises."""
    global _loop, _thread
    with _lock:
        loop, thread, _loop, _thread = _loop, _thread, None, None
    if loop is not None and thread is not None and thread is not threading.current_thread():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout_s)


def _forget() -> None:
    """In a forked child: the thread is gone, the loop's file descriptors are the parent's."""
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


os.register_at_fork(after_in_child=_forget)
atexit.register(stop)
