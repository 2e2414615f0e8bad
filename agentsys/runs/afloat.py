"""Attempts whose call waits on the event loop: they hold no thread, and what came of them is recorded together.

A worker of threads would else need a thread for each call that waits for a slow server.  How many steps it has
under way at a time is bounded all the same: each has a place, whether a thread is with it or not.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable

from django.db import connection

from agentsys.core import db

from . import dispatch
from .attempts import Attempt
from .handlers import Waiting
from .store.claims import Result

logger = logging.getLogger(__name__)

#: A call that is over by then is not set afloat: its thread goes on with the same run, which costs less.
PATIENCE_S = 0.005
#: A result waits this long for others.
LINGER_S = 0.005
MAX_TOGETHER = 64

Done = tuple[Attempt, Result]


class Afloat:
    """``places`` for the steps of one process; ``record`` writes results down.

    One thread, from the first call that waits on.
    """

    def __init__(self, places: int, record: Callable[[list[Done]], object]) -> None:
        self._places, self._record = places, record
        self._changed = threading.Condition()
        self._taken = self._count = 0
        self._owed: set[str] = set()
        self._landed: queue.SimpleQueue[tuple[Attempt, Waiting]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def count(self) -> int:
        """How many calls are afloat: under way without a thread, or not yet recorded."""
        return self._count

    def room(self, lane: str) -> int:
        """How many more steps may begin.  None: ``lane`` is rung as soon as one may."""
        with self._changed:
            if self._taken >= self._places:
                self._owed.add(lane)
            return self._places - self._taken

    def enter(self) -> None:
        """Take a place, when there is one; no connection is held meanwhile, for who leaves may need it."""
        if self._entered():
            return
        db.release()
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._places)
            self._taken += 1

    def _entered(self) -> bool:
        with self._changed:
            free = self._taken < self._places
            self._taken += free
            return free

    def leave(self, count: int = 1, *, afloat: int = 0) -> None:
        """Give places back, ``afloat`` of them those of calls that have landed."""
        with self._changed:
            self._taken -= count
            self._count -= afloat
            owed, self._owed = self._owed, set()
            self._changed.notify_all()
        dispatch.wake(sorted(owed))

    def take(self, attempt: Attempt, waiting: Waiting) -> None:
        """From here on an attempt is ours, and its place."""
        with self._changed:
            self._count += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="afloat", daemon=True)
                self._thread.start()
        waiting.call.then(lambda: self._landed.put((attempt, waiting)))

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether all have landed and are recorded within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout_s)

    def _run(self) -> None:
        while True:
            landed = [self._landed.get()]
            time.sleep(LINGER_S)
            while len(landed) < MAX_TOGETHER and not self._landed.empty():
                landed.append(self._landed.get())
            try:
                self._land(landed)
            except Exception:  # a thread that dies would keep all that comes after
                _unrecorded()
            for attempt, _ in landed:
                attempt.abandon()  # what is recorded is over; a lease of anything else must run out
            db.release()
            self.leave(len(landed), afloat=len(landed))

    def _land(self, landed: list[tuple[Attempt, Waiting]]) -> None:
        results = [(attempt, _result(attempt, waiting)) for attempt, waiting in landed]
        self._record([(attempt, result) for attempt, result in results if result is not None])


def _result(attempt: Attempt, waiting: Waiting) -> Result | None:
    """What it gave; None also where its failure could not be written: that keeps no other from its record."""
    try:
        return attempt.land(waiting)
    except Exception:
        _unrecorded()
        return None


def _unrecorded() -> None:
    logger.exception("what came of calls that waited was not recorded; their leases run out")
    connection.close()
