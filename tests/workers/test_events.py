"""What a monitor is told of attempts, and what happens to it while Redis is away."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from agentsys.infrastructure.processes import wait_until
from agentsys.runs.attempts import AttemptInfo
from workers import events
from workers.celery import app
from workers.events import AttemptEvents

pytestmark = pytest.mark.processes


def attempt(step: str = "a", number: int = 1) -> AttemptInfo:
    return AttemptInfo(str(uuid.uuid4()), "execute", str(uuid.uuid4()), step, "text.count", number)


class Monitor:
    """Listens to the cluster's events as any monitor does."""

    def __init__(self, url: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self._url = url
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Monitor":
        self._thread.start()
        with redis.Redis.from_url(self._url) as client:
            assert wait_until(lambda: client.pubsub_numpat() > 0, timeout_s=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join()

    def _listen(self) -> None:
        with app.connection(self._url) as connection:
            self._receiver = app.events.Receiver(connection, handlers={"*": self.heard.append})
            self._receiver.capture(wakeup=False)

    def types(self, of: AttemptInfo) -> list[str]:
        return [event["type"] for event in self.heard if event.get("uuid") == of.id]


@pytest.fixture
def teller(doorbell: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[AttemptEvents]:
    monkeypatch.setattr(app.conf, "broker_url", doorbell.url)
    made = AttemptEvents("compute@here")
    made.start()
    yield made
    made.close()


def test_an_attempt_is_received_started_and_succeeded_in_this_order(teller, doorbell):
    one, other = attempt("a"), attempt("b", number=3)
    with Monitor(doorbell.url) as monitor:
        teller.started(one)
        teller.ended(one, ok=True, result="5 words", runtime_s=0.25)
        teller.started(other)
        teller.ended(other, ok=False, result="tool_failed: no", runtime_s=0.5)
        assert wait_until(lambda: len(monitor.types(other)) == 3, timeout_s=10)

    assert monitor.types(one) == ["task-received", "task-started", "task-succeeded"]
    assert monitor.types(other) == ["task-received", "task-started", "task-failed"]
    told = {event["type"]: event for event in monitor.heard if event.get("uuid") == other.id}
    assert told["task-received"]["name"] == "execute"
    assert told["task-received"]["retries"] == 2
    assert told["task-received"]["kwargs"] == repr({"run": other.run, "step": "b", "tool": "text.count"})
    assert told["task-failed"]["exception"] == "tool_failed: no"
    assert told["task-failed"]["runtime"] == 0.5
    assert {event["hostname"] for event in told.values()} == {"compute@here"}


def test_an_attempt_that_was_taken_back_is_told_in_its_own_workers_name(teller, doorbell):
    one, other = attempt(), attempt()
    with Monitor(doorbell.url) as monitor:
        teller.lost(one.id, "lease", "network-2@elsewhere/abc-1/7/99")
        teller.lost(other.id, "dead", "an unknown name")
        assert wait_until(lambda: monitor.types(one) == monitor.types(other) == ["task-failed"], timeout_s=10)
        hosts = [
            event["hostname"] for which in (one, other) for event in monitor.heard if event.get("uuid") == which.id
        ]

    assert hosts == ["network-2@elsewhere", "compute@here"]


def test_attempts_of_a_process_that_ends_are_told_as_failed(teller, doorbell):
    one = attempt()
    with Monitor(doorbell.url) as monitor:
        teller.started(one)
        teller.abandon("its process was ended")
        teller.close()
        assert wait_until(lambda: len(monitor.types(one)) == 3, timeout_s=10)
    assert monitor.types(one)[-1] == "task-failed"


def test_while_redis_is_away_a_bounded_number_is_kept_and_told_later(teller, doorbell, monkeypatch):
    monkeypatch.setattr(events, "RETRY_S", 0.1)
    os.kill(doorbell.pid, signal.SIGKILL)
    assert wait_until(lambda: not doorbell.alive(), timeout_s=5)
    attempts = [attempt() for _ in range(events.MAX_WAITING)]
    for one in attempts:
        teller.started(one)
    assert len(teller._waiting) <= events.MAX_WAITING
    last = attempts[-1]
    teller.ended(last, ok=True, result="", runtime_s=0.1)

    doorbell.start()
    with Monitor(doorbell.url) as monitor:
        assert wait_until(lambda: "task-succeeded" in monitor.types(last), timeout_s=15)
