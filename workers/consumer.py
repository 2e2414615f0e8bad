"""Celery's consumer, repaired so that losing Redis, or a child, never ends or stalls a worker (Celery 5.7.0)."""

import contextlib
import logging
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

logger = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_STEP_S = 0.2
RETRY_CAP_S = 1.0


class SafeConsumer(Consumer):
    """Reconnects for ever, at least once a second, and outlives a loss with messages in hand."""

    #: One start counts as done already.  In the first of all, Celery ends the whole worker if a child of its pool has
    #: died by then, instead of replacing that as it does ever after.
    restart_count = 0

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery closes the broken connection here a second time, and that may raise.

        The first close fails to give back the messages in hand (Redis is gone) but marks them as
        given back; the second close finds them still there and fails an assertion, which is no
        connection error, so the worker's main process ended with code 1.
        """
        connection = self.connection
        if connection is not None:
            connection.close = partial(_close_quietly, connection)
        super().on_connection_error_after_connected(exc)

    def ensure_connected(self, conn: Any) -> Any:
        """kombu's back-off grows to 30 s; PostgreSQL is the truth, so a knock a second is enough.

        ``maybe_shutdown`` is asked between two tries, so SIGTERM works while Redis is away.
        """
        conn.ensure_connection(
            self._log_retry,
            interval_start=RETRY_FIRST_S,
            interval_step=RETRY_STEP_S,
            interval_max=RETRY_CAP_S,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def _log_retry(self, error: Exception, interval_s: float) -> None:
        logger.warning("Redis does not answer (%s); trying again in %.1f s", error, interval_s)


def _close_quietly(connection: Any) -> None:
    """Let go of what the first close left; nothing that is wrong with it matters any more."""
    with contextlib.suppress(Exception):
        type(connection).close(connection)
