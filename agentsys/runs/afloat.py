"""Attempts whose call waits on the event loop: they hold no thread, and what came of them is recorded together.

A worker of threads would else need a thread for each call that waits for a slow server.  How many steps it has
under way at a time is bounded all the same: each has a place, whether a thread is with it or not.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from django.db import connection

from agentsys.core import db

from . import dispatch
from .attempts import Attempt
from .handlers import Waiting
from .store.claims import Result

logger = logging.getLogger(__name__)

#: A call that is over by then is not set afloat: its thread goes on with the same run, which costs less.
PATIENCE_S = 0.005
#: A call that came back so soon after it was set afloat would have been worth the wait.
SWIFT_S = 2 * PATIENCE_S
#: A process whose places are all taken tells the others of a lane's work no more often than this.
PASS_ON_S = 0.25
#: A result waits this long for others.
LINGER_S = 0.005
MAX_TOGETHER = 64

Done = tuple[Attempt, Result]


class Afloat:
    """``places`` for the steps of one process, of one lane; ``record`` writes results down.

    A place is taken before a step is claimed for it, so that a process holds no claim that another could do.
    ``refill(lanes)`` is called when places are free again that somebody has asked for: a bell for them might go to a
    process that has none.  One thread, from the first call that waits on.
    """

    def __init__(
        self,
        places: int,
        record: Callable[[list[Done]], object],
        refill: Callable[[Sequence[str]], object] = dispatch.wake,
    ) -> None:
        self._places, self._record, self._refill = places, record, refill
        self._changed = threading.Condition()
        self._taken = self._count = 0
        self._owed: set[str] = set()
        self._passed_on_at = 0.0
        self._landed: queue.SimpleQueue[tuple[Attempt, Waiting]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        #: How long a call is waited for: none that is on the way takes its thread's time while they all are slow.
        self.patience_s = PATIENCE_S

    @property
    def count(self) -> int:
        """How many calls are afloat: under way without a thread, or not yet recorded."""
        return self._count

    def enter(self, most: int, lane: str) -> int:
        """Take up to ``most`` places, ``most`` above 0; how many there were.

        None: refilled as soon as one is left, and others are told that ``lane`` has work.
        """
        with self._changed:
            taken = min(most, self._places - self._taken)
            self._taken += taken
            if taken:
                return taken
            self._owed.add(lane)
            now = time.monotonic()
            is_due = now >= self._passed_on_at + PASS_ON_S
            self._passed_on_at = now if is_due else self._passed_on_at
        if is_due:
            dispatch.wake([lane])
        return 0

    def leave(self, count: int = 1, *, afloat: int = 0) -> None:
        """Give places back, ``afloat`` of them those of calls that have landed."""
        if not count:
            return
        with self._changed:
            self._taken -= count
            self._count -= afloat
            owed, self._owed = self._owed, set()
            self._changed.notify_all()
        if owed:
            self._refill(sorted(owed))

    def take(self, attempt: Attempt, waiting: Waiting) -> None:
        """From here on an attempt is ours, and its place."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="afloat", daemon=True)
                thread.start()  # raises where there can be no more of them
                self._thread = thread
            self._count += 1
        begun = time.monotonic()
        waiting.call.then(lambda: self._land_later(attempt, waiting, begun))

    def _land_later(self, attempt: Attempt, waiting: Waiting, begun: float) -> None:
        """On any thread."""
        self.patience_s = PATIENCE_S if time.monotonic() < begun + SWIFT_S else 0.0
        self._landed.put((attempt, waiting))

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
