"""kombu's Redis transport with three repairs (kombu 5.7, redis-py 8.1).

*One client a channel.*  kombu makes a new client for each operation, which redis-py 8.1 made dear
(0.2 ms).  A client is safe between threads; its connections come from the channel's pool either way.

*No acknowledgement in Redis.*  kombu keeps a copy of each message there until it is acknowledged.
Where that acknowledgement fails (Redis hung for a moment) it is logged and the message counts as in
hand for ever; after as many as the worker has slots it is connected and deaf.  Our messages are
bells: a lost one costs a second, so messages in hand are counted in the process alone, and those in
hand when the connection is lost are forgotten.  It also spares two round trips a message.

*A poisoned list does not end the worker.*  An item that is no Celery message (somebody's LPUSH)
raises in the middle of the event loop and ends the worker's main process.  Such an item is already
out of the list when it is read, so it is logged and dropped.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

logger = logging.getLogger(__name__)

#: What the code between the list's item and a running task raises for items of the wrong shape.
NOT_A_MESSAGE = (ValueError, TypeError, AttributeError, LookupError)


class QoS(virtual.QoS):
    """Counts the messages in hand; gives none of them back."""

    restore_at_shutdown = False
    newest: str | None = None

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        self.newest = delivery_tag

    def forget_newest(self) -> None:
        """Let go of a message that could not be handed over."""
        if self.newest is not None:
            self.ack(self.newest)


class Channel(redis.Channel):
    """A channel that keeps its client and outlives an item that is no message."""

    QoS = QoS  # type: ignore[assignment]
    ack_emulation = True  # kombu replaces our QoS if it is off
    do_restore = False
    _kept_client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._kept_client is None:
            self._kept_client = super()._create_client()
        return self._kept_client

    def _disconnect_pools(self) -> None:
        self._kept_client = None  # its pool ends here: after a fork, and when the channel closes
        super()._disconnect_pools()

    def _brpop_read(self, **options: Any) -> Any:
        self.qos.newest = None
        try:
            return super()._brpop_read(**options)
        except self.connection_errors as error:
            if not isinstance(error, LookupError):
                raise
            self._drop(error)  # kombu counts KeyError as a lost connection
        except NOT_A_MESSAGE as error:
            self._drop(error)
        raise Empty

    def _drop(self, error: Exception) -> None:
        self.qos.forget_newest()
        logger.error("Dropped an item of a queue that is no Celery message: %r", error)


class Transport(redis.Transport):
    """``redis://`` with our channel."""

    Channel = Channel


def install() -> None:
    """Make every ``redis://`` and ``rediss://`` address of this process use this transport."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
