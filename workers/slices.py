"""One turn at a lane: claim and execute for a few seconds, tell Flower and the log of each attempt."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog
from django.conf import settings
from django.db import Error, close_old_connections, connection, connections

from agentsys.core import procs
from agentsys.runs import engine
from agentsys.runs.afloat import Afloat
from agentsys.runs.attempts import AttemptInfo, Observer
from workers import dispatch

logger = logging.getLogger(__name__)

NOTHING_DUE = "nothing due"
MAX_NAMED = 5


class Slices:
    """Turns at one lane, by any number of threads of this process."""

    def __init__(
        self,
        lane: str,
        observer: Observer,
        is_stopping: Callable[[], bool],
        *,
        afloat: Afloat | None = None,
        one_at_a_time: bool = False,
    ) -> None:
        """``afloat`` takes the calls that wait on the event loop; without it they hold their threads.

        ``one_at_a_time``: another turn waits for the one under way, so that a step that ends its process harms no other
        turn's.
        """
        self._lane, self._observer, self._is_stopping, self._afloat = lane, observer, is_stopping, afloat
        self._one = threading.Lock() if one_at_a_time else None
        self._lock = threading.Lock()
        self._busy = 0

    @property
    def busy(self) -> int:
        """How many turns are under way in this process, or wait for one that is."""
        return self._busy

    def take(self) -> str:
        """One turn; what it ran, in words.  Never raises for a database that is away: polls go on."""
        log = SliceLog(self._observer)
        self._count(+1)
        try:
            with self._alone():
                more = self._drain(log)
        except Error as error:
            logger.warning("lane %s waits for PostgreSQL: %s", self._lane, str(error).strip())
            connections.close_all()
            return f"{log}; then PostgreSQL was away"
        finally:
            self._count(-1)
            close_old_connections()  # a broken one; into the pool, where there is one
        if more:
            dispatch.ring([self._lane])
        return str(log)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Behind the turn under way, if it is to be alone: Celery sends a process whose bell waits no other one, so the
        bell is passed on to those that are free."""
        if self._one is None:
            yield
            return
        if not self._one.acquire(blocking=False):
            dispatch.ring([self._lane])
            self._one.acquire()
        try:
            yield
        finally:
            self._one.release()

    def _drain(self, log: "SliceLog") -> bool:
        """Work until nothing is due (False), or the turn is over or the worker is to end (True)."""
        end = time.monotonic() + settings.SLICE_S
        engine.drain(
            self._lane,
            owner=procs.own_name(),
            observer=log,
            slice_s=settings.SLICE_S,
            stopping=self._is_stopping,
            afloat=self._afloat,
        )
        return time.monotonic() >= end or self._is_stopping()

    def _count(self, change: int) -> None:
        with self._lock:
            self._busy += change


class Unbidden:
    """Turns that no bell asked for, each on a thread of its own, at most so many at a time."""

    def __init__(self, slices: Slices, most: int, *, name: str) -> None:
        self._slices = slices
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._free = threading.Semaphore(most)

    def take(self) -> bool:
        """Have one taken soon; False: as many as may are under way, or this process ends."""
        if not self._free.acquire(blocking=False):  # else turns would pile up behind those that hang
            return False
        try:
            self._threads.submit(self._take)
        except RuntimeError:  # closed
            self._free.release()
            return False
        return True

    def close(self) -> None:
        """Wait for those under way."""
        self._threads.shutdown()

    def _take(self) -> None:
        try:
            self._slices.take()
        except Exception:  # nobody reads this future
            logger.exception("a turn taken without a bell failed")
        finally:
            self._free.release()
            with contextlib.suppress(Error):
                connection.close()


class SliceLog:
    """What one turn ran; hands each attempt on to another observer, and to the log's context."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._names: list[str] = []
        self._count = 0

    def started(self, attempt: AttemptInfo) -> None:
        structlog.contextvars.bind_contextvars(run=attempt.run, step=attempt.step, attempt=attempt.id)
        self._observer.started(attempt)

    def ended(self, attempt: AttemptInfo, *, ok: bool, result: str, runtime_s: float) -> None:
        self._observer.ended(attempt, ok=ok, result=result, runtime_s=runtime_s)
        structlog.contextvars.unbind_contextvars("run", "step", "attempt")
        self._count += 1
        if len(self._names) < MAX_NAMED:
            self._names.append(f"{attempt.run}/{attempt.step}")

    def __str__(self) -> str:
        if not self._count:
            return NOTHING_DUE
        more = f" and {self._count - MAX_NAMED} more" if self._count > MAX_NAMED else ""
        return f"ran {', '.join(self._names)}{more}"
