"""Redis killed, hung, emptied, poisoned: workers live, work goes on, and is quick again when Redis is back."""

import os
import signal
import time

import pytest
import redis

from agentsys.infrastructure.processes import wait_until
from tests.workers.conftest import ended

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.usefixtures("ring")]

POISON = [
    b"garbage",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"body": "!!", "properties": {"delivery_tag": "1", "body_encoding": "base64"}}',
    b'{"headers": {"task": "execute"}, "properties": {"delivery_tag": "2", "delivery_info": {}}}',
    b'{"headers": {"task": "nobody", "id": "3"}, "properties": {"delivery_tag": "3", "delivery_info": {}}}',
]


def echo(key: str = "a", tool: str = "test.echo"):
    return {"key": key, "tool": tool, "arguments": {"value": 1}}


def kill(server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.alive(), timeout_s=5)


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    ("lane", "tool", "hold"), [("compute", "test.echo", "probe.hold"), ("network", "test.far", "probe.hold_far")]
)
def test_a_worker_outlives_redis_killed_in_the_middle_of_a_task(start, submit, doorbell, held, lane, tool, hold):
    worker = start(lane, slots=1)
    pid = worker.pid
    first = submit([held.step(tool=hold)])
    held.wait_for()
    # One bell is running, another is in the worker's hand.
    second = submit([echo(tool=tool)])
    kill(doorbell)
    held.let_go()

    assert ended(first).result == {"a": "held"}
    assert ended(second).status == "succeeded"  # without Redis: polled
    doorbell.start()
    assert wait_until(lambda: "Connected to redis" in worker.log_text().split("ready.")[-1], timeout_s=10)
    begun = time.monotonic()
    assert ended(submit([echo(tool=tool)])).status == "succeeded"
    assert time.monotonic() - begun < 3
    assert (worker.alive(), worker.pid) == (True, pid)


def test_a_worker_outlives_a_redis_that_hangs_and_is_not_deaf_afterwards(start, submit, doorbell, held):
    worker = start("compute", slots=1)
    for _ in range(3):  # as many bells as slots would be lost for good if one hang cost one
        run = submit([held.step()])
        held.wait_for()
        os.kill(doorbell.pid, signal.SIGSTOP)
        meanwhile = submit([echo()])
        held.let_go()
        assert ended(run).status == "succeeded"
        assert ended(meanwhile).status == "succeeded"
        os.kill(doorbell.pid, signal.SIGCONT)
    assert heard_bell(worker, doorbell, submit)


@pytest.mark.promise("P7")
def test_a_worker_outlives_flushall_and_items_that_are_no_messages(start, submit, doorbell):
    worker = start("compute", slots=1)
    client = redis.Redis.from_url(doorbell.url)
    client.flushall()
    for item in POISON * 2:
        client.lpush("compute", item)
    assert wait_until(lambda: not client.llen("compute"), timeout_s=10)
    client.flushall()

    assert heard_bell(worker, doorbell, submit)
    assert worker.alive()


def heard_bell(worker, doorbell, submit) -> bool:
    """Whether a run is done sooner than polling could: three of three within half a second."""
    client = redis.Redis.from_url(doorbell.url)
    assert wait_until(lambda: not client.llen(worker.lane), timeout_s=10)

    def quick() -> bool:
        begun = time.monotonic()
        ended(submit([echo()]))
        return time.monotonic() - begun < 0.8

    return wait_until(lambda: quick() and quick(), timeout_s=20)
