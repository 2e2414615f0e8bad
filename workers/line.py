"""A line to Redis on which nothing is answered: who sends does not wait.

``CLIENT REPLY OFF`` makes Redis silent, so a command costs one write to a kept socket.  An ordinary call costs four
times as much, most of it the wait, in which another thread takes the interpreter.  What Redis makes of the command is
not told: only for what may be lost.
"""

import os
import threading

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.retry import Retry


class Line:
    """Kept for life; any thread may use it, and a forked child has one of its own."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """The next command opens a new connection; the one there was is not touched, it may be a parent's."""
        self._lock = threading.Lock()
        self._connection: ConnectionInterface | None = None

    def send(self, *command: str | int) -> None:
        """Hand a command to Redis.

        Raises:
            redis.RedisError: there is no connection, or Redis has not read what it was sent for ``timeout_s`` seconds.
        """
        with self._lock:
            connection, self._connection = self._open(), None
            connection.send_packed_command(connection.pack_command(*command), check_health=False)
            self._connection = connection

    def _open(self) -> ConnectionInterface:
        """The kept connection unless Redis has closed it, which is the only thing that it says."""
        kept = self._connection
        if kept is not None:
            try:
                if not kept.can_read(timeout=0):
                    return kept
            except redis.RedisError:
                pass
            kept.disconnect()
        return self._made()

    def _made(self) -> ConnectionInterface:
        waits = {"socket_timeout": self._timeout_s, "socket_connect_timeout": self._timeout_s}
        made = redis.ConnectionPool.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), **waits).make_connection()
        made.connect()
        made.send_command("CLIENT", "REPLY", "OFF")
        return made
