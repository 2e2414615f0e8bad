"""Hints over Redis: that something may be worth a look in PostgreSQL.

A hint decides nothing.  Losing, repeating, delaying or forging one is harmless: whoever hears it looks
into PostgreSQL, and looks there every few seconds without any.  Posting costs an append; one thread a
process publishes what has gathered, one message a channel at most every ``LINGER_S`` whatever the load.
"""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

#: The first hint goes out at once; what comes within this time after it goes out together.
LINGER_S = 0.1
#: While Redis is away it is asked so often, and hints are dropped.
RETRY_S = 1.0
#: A Redis that hangs costs the publishing thread this.
TIMEOUT_S = 0.4
MAX_WAITING = 10_000
#: Items of one message.
MAX_ITEMS = 500
#: How soon a listener notices that it is closed or no longer wanted.
LOOK_UP_S = 1.0


def post(channel: str, item: str) -> None:
    """Have ``item`` published soon, once however often it is posted meanwhile.  About 1 µs; never raises."""
    _publisher.post(channel, item)


class Publisher:
    """Publishes what is posted, from a thread that starts with the first hint."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque(maxlen=MAX_WAITING)
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._away = False

    def post(self, channel: str, item: str) -> None:
        self._waiting.append((channel, item))
        if not self._news.is_set():
            self._news.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            time.sleep(LINGER_S if self._publish() else RETRY_S)

    def _publish(self) -> bool:
        messages = list(_messages(self._take()))
        try:
            with _client(settings.REDIS_URL).pipeline(transaction=False) as pipeline:
                for channel, message in messages:
                    pipeline.publish(channel, message)
                pipeline.execute()
        except Exception as error:  # a thread that dies would cost every hint of this process from now on
            if not self._away:
                logger.warning("Redis takes no hints; followers and workers look by themselves: %s", error)
            self._away = True
            return False
        self._away = False
        return True

    def _take(self) -> dict[str, dict[str, None]]:
        """What waits, by channel, in order and without repetitions."""
        taken: dict[str, dict[str, None]] = {}
        while self._waiting:
            channel, item = self._waiting.popleft()
            taken.setdefault(channel, {})[item] = None
        return taken


def _messages(taken: dict[str, dict[str, None]]) -> Sequence[tuple[str, str]]:
    return [
        (channel, json.dumps(list(items)[first : first + MAX_ITEMS]))
        for channel, items in taken.items()
        for first in range(0, len(items), MAX_ITEMS)
    ]


@cache
def _client(url: str) -> Any:
    """One client for all publishing of this process; safe between threads."""
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=_once_more())


def _once_more() -> Retry:
    """One more try where the kept connection turns out to be closed, none where Redis hangs."""
    return Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))


class Listener(threading.Thread):
    """Hears what is posted to ``channels`` while it is wanted; connects anew for as long as it takes.

    ``heard(channel, items)`` gets texts of any content: anybody may have written them.  ``joined()`` is
    called after each (re)connection, because what was published before it was missed.  Both are called on
    this thread and must be quick.
    """

    def __init__(
        self,
        channels: Sequence[str],
        heard: Callable[[str, list[str]], None],
        *,
        joined: Callable[[], None] = lambda: None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(name="hears-hints", daemon=True)
        self._channels, self._heard, self._joined, self._wanted = channels, heard, joined, wanted
        self._closed = threading.Event()
        self._away = False

    def close(self) -> None:
        self._closed.set()

    def run(self) -> None:
        while not self._closed.is_set() and self._wanted():
            try:
                self._listen()
            except Exception as error:  # Redis is away, or a hearer has a fault: hints go on either way
                if not self._away:
                    logger.warning("No hints are heard until Redis answers: %r", error)
                self._away = True
                self._closed.wait(RETRY_S)

    def _listen(self) -> None:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=5,
            retry=Retry(NoBackoff(), 0),
        )
        with client, client.pubsub() as pubsub:
            pubsub.subscribe(*self._channels)
            while not self._closed.is_set() and self._wanted():
                message = pubsub.get_message(timeout=LOOK_UP_S)
                if message is not None:
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._away = False
            self._joined()
        elif message["type"] == "message":
            self._heard(message["channel"].decode(), _items(message["data"]))


def _items(data: bytes) -> list[str]:
    """The texts in a message; what is none of ours holds none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return [item for item in found if isinstance(item, str)][:MAX_ITEMS] if isinstance(found, list) else []


def _forget() -> None:
    """In a forked child: the thread is gone, and the connections are the parent's."""
    global _publisher
    _publisher = Publisher()
    _client.cache_clear()


_publisher = Publisher()
os.register_at_fork(after_in_child=_forget)
