"""Every attempt is a task in Flower: its events, sent by Celery's own dispatcher, in batches.

Where an attempt begins or ends a run has new events, so those who follow it get a hint here, too.

The engine calls :meth:`AttemptEvents.started` and ``ended`` in the middle of its work, so they only
append to a bounded list (about 1 µs).  One thread a process makes events of it and publishes many
with one command.  While Redis is away the newest ``MAX_WAITING`` are kept and the older ones dropped.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from celery.events import EventDispatcher

from agentsys.core import procs
from agentsys.runs import dispatch
from agentsys.runs.attempts import AttemptInfo
from workers.celery import app

logger = logging.getLogger(__name__)

BATCH = 200
#: How long an event may wait for company.
LINGER_S = 0.1
RETRY_S = 1.0
MAX_WAITING = 10_000
MAX_TEXT_CHARS = 500

#: Type, fields, and the node in whose name it is told (empty: ours).
_Event = tuple[str, dict[str, Any], str]


class AttemptEvents:
    """Tells Flower of attempts, under the node name of the Celery worker ``hostname``."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._waiting: deque[_Event] = deque(maxlen=MAX_WAITING)
        self._batch: list[_Event] = []
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._dispatcher: EventDispatcher | None = None
        self._failed = False
        self._open: dict[str, tuple[AttemptInfo, float]] = {}
        self._thread = threading.Thread(target=self._run, name="attempt-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def started(self, attempt: AttemptInfo) -> None:
        dispatch.changed(attempt.run)
        now = time.time()
        self._open[attempt.id] = (attempt, now)
        called = {"run": str(attempt.run), "step": attempt.step, "tool": attempt.tool}
        received = {
            "uuid": attempt.id,
            "name": attempt.task,
            "args": "()",
            "kwargs": repr(called),
            "retries": attempt.number - 1,
            "eta": None,
            "expires": None,
            "timestamp": now,
        }
        self._waiting.append(("task-received", received, ""))
        self._waiting.append(("task-started", {"uuid": attempt.id, "timestamp": now}, ""))
        self._wake()

    def ended(self, attempt: AttemptInfo, *, ok: bool, result: str, runtime_s: float) -> None:
        """``result`` is a short text: what came out, or the error."""
        dispatch.changed(attempt.run)
        self._open.pop(attempt.id, None)
        fields: dict[str, Any] = {"uuid": attempt.id, "timestamp": time.time(), "runtime": runtime_s}
        fields["result" if ok else "exception"] = result[:MAX_TEXT_CHARS]
        self._waiting.append(("task-succeeded" if ok else "task-failed", fields, ""))
        self._wake()

    def lost(self, attempt_id: str, why: str, worker: str) -> None:
        """An attempt of a ``worker`` that cannot tell of its end itself (``dead``), or that lost its lease (``lease``).

        Told in the name of that worker's node, not of ours.
        """
        text = {"dead": "its worker has ended", "lease": "its worker was not heard of for a lease"}.get(why, why)
        self._waiting.append(
            ("task-failed", {"uuid": attempt_id, "timestamp": time.time(), "exception": text}, _node_of(worker))
        )
        self._wake()

    def abandon(self, why: str) -> None:
        """Every attempt still under way counts as failed: this process ends."""
        for attempt, begun in list(self._open.values()):
            self.ended(attempt, ok=False, result=why, runtime_s=time.time() - begun)

    def close(self, timeout_s: float = 1.0) -> None:
        """Send what waits, for at most ``timeout_s``, and end the thread."""
        self._stopped.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _wake(self) -> None:
        if not self._news.is_set():
            self._news.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._news.wait()
            self._stopped.wait(LINGER_S)
            self._news.clear()
            self._send_all()
        self._disconnect()

    def _send_all(self) -> None:
        while self._batch or self._waiting:
            self._batch = self._batch or list(self._take())
            if self._send():
                self._batch = []
            elif self._stopped.wait(RETRY_S):
                return

    def _take(self) -> Iterator[_Event]:
        try:
            for _ in range(BATCH):
                yield self._waiting.popleft()
        except IndexError:
            return

    def _send(self) -> bool:
        """Publish the batch with one command.  False while Redis does not take it."""
        try:
            dispatcher = self._connected()
            for kind, fields, node in self._batch:
                dispatcher.hostname = node or self._hostname  # the dispatcher writes it into each event
                dispatcher.send(kind, **fields)
            dispatcher.flush(errors=False)
        except Exception as error:  # any fault of the broker's: events are hints, the work goes on
            self._disconnect()
            if not self._failed:
                logger.warning("Flower is not told of attempts until Redis answers: %s", error)
            self._failed = True
            return False
        self._failed = False
        return True

    def _connected(self) -> EventDispatcher:
        if self._dispatcher is None:
            self._dispatcher = app.events.Dispatcher(
                app.connection_for_write(),
                hostname=self._hostname,
                buffer_while_offline=False,
                buffer_group=frozenset({"task"}),
                buffer_limit=BATCH * 10,  # never reached: we flush
            )
        return self._dispatcher

    def _disconnect(self) -> None:
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is None:
            return
        try:
            dispatcher.close()
            dispatcher.connection.release()
        except Exception as error:  # it is broken already
            logger.debug("closing a broken connection: %s", error)


def _node_of(worker: str) -> str:
    """The node name by which Flower knows a worker; empty when the worker's name does not tell."""
    found = procs.parse(worker)
    return f"{found.node}@{found.host}" if found and found.node else ""
