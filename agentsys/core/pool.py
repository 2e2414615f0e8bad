"""psycopg's pool as a service needs it: a restart of PostgreSQL costs its clients a moment, not a minute.

psycopg_pool 3.3 checks a connection before it hands it out, and pauses for 0, 1, 2, 4, 8… seconds after
each that fails.  After a restart every idle connection is dead: with seven of them, the first client
waited for a minute and got PoolTimeout, with PostgreSQL there all the time.
"""

import contextlib
import math
import select
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import Connection, Error
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from agentsys.core import backoff

#: The pool gives one round of tries this long.  Its own default doubles its pauses for five minutes, so
#: that after an outage of one minute it would be away for another.
RECONNECT_TIMEOUT_S = 2
#: Between two fresh connections that both died before they were used: PostgreSQL, or a proxy before it, fails.
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
#: All idle connections are replaced at most so often; between, each that is found dead by itself.
RENEW_EVERY_S = 1.0
#: A connection that came back so short a time ago is asked only by its socket, which costs no round trip: a
#: server that ended it has sent its word.  What a silent network ate, a question would not find out sooner.
FRESH_S = 1.0


class Pool(ConnectionPool[Connection[Any]]):
    """A pool that replaces all its idle connections as soon as one is found dead."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._renewing = threading.Lock()
        self._renewed_at = 0.0
        self._back_at: WeakKeyDictionary[Connection[Any], float] = WeakKeyDictionary()

    def putconn(self, conn: Connection[Any]) -> None:
        self._back_at[conn] = time.monotonic()
        super().putconn(conn)

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """A connection that answers; one round trip unless it was used a moment ago.

        Raises:
            PoolTimeout: there was none for ``timeout`` seconds (None: the pool's own).
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        failed = 0
        while True:
            given = super().getconn(deadline - time.monotonic())
            given_at = time.monotonic()
            if self._is_fresh(given, given_at) or self._answers(given):
                return given
            self._renew(given_at)
            failed += 1
            if failed > 1:  # the first may have been idle for long, the next was made for us
                pause_s = backoff.half_jitter(failed - 1, base_s=PAUSE_S, cap_s=LONGEST_PAUSE_S)
                time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))

    def _is_fresh(self, given: Connection[Any], now: float) -> bool:
        if given.closed or now - self._back_at.get(given, -math.inf) >= FRESH_S:
            return False
        socket = select.poll()
        socket.register(given.fileno(), select.POLLIN)
        return not socket.poll(0)  # between two questions a server says nothing, but that it goes

    def _answers(self, given: Connection[Any]) -> bool:
        try:
            self.check_connection(given)
        except BaseException as error:
            given.close()
            self.putconn(given)  # which makes another in its place
            if isinstance(error, Error):
                return False
            raise
        return True

    def _renew(self, given_at: float) -> None:
        """Replace what is idle, unless that was done since the dead connection was handed out, or just before."""
        with self._renewing:
            if given_at < self._renewed_at + RENEW_EVERY_S:
                return
            self.drain()
            self._renewed_at = time.monotonic()


def keep_trying(pool: Any) -> None:
    """The pool's ``reconnect_failed``: begin another round of tries.

    Else those who wait already are not served when PostgreSQL is back, until somebody new asks.
    """
    threading.Thread(target=_ask, args=(pool,), name="pool-keeps-trying", daemon=True).start()


def _ask(pool: Any) -> None:
    with contextlib.suppress(PoolTimeout, PoolClosed), pool.connection(timeout=1.0):
        pass
