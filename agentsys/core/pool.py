"""What psycopg's pool does while PostgreSQL is away: keep trying, for those who wait."""

import contextlib
import threading
from typing import Any

from psycopg_pool import PoolClosed, PoolTimeout

#: The pool gives one round of tries this long.  Its own default doubles its pauses for five minutes, so
#: that after an outage of one minute it would be away for another.
RECONNECT_TIMEOUT_S = 2


def keep_trying(pool: Any) -> None:
    """The pool's ``reconnect_failed``: begin another round of tries.

    Else those who wait already are not served when PostgreSQL is back, until somebody new asks.
    """
    threading.Thread(target=_ask, args=(pool,), name="pool-keeps-trying", daemon=True).start()


def _ask(pool: Any) -> None:
    with contextlib.suppress(PoolTimeout, PoolClosed), pool.connection(timeout=1.0):
        pass
