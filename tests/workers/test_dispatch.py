"""Bells: as many as the queue has room for, never an error, never a wait."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from agentsys.infrastructure.processes import wait_until
from agentsys.runs.dispatch import wake
from workers import dispatch
from workers.celery import app
from workers.lanes import LANES

pytestmark = pytest.mark.processes


@pytest.fixture
def client(doorbell: Any):
    with redis.Redis.from_url(doorbell.url) as connected:
        yield connected


def bells(client: redis.Redis, lane: str) -> list[dict[str, Any]]:
    return [json.loads(item) for item in client.lrange(lane, 0, -1)]


def seconds(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def test_each_lane_is_rung_once_an_element_by_the_task_that_serves_it(client):
    wake(["compute", "model", "compute"])

    assert [bell["headers"]["task"] for bell in bells(client, "compute")] == ["execute", "execute"]
    assert [bell["headers"]["task"] for bell in bells(client, "model")] == ["plan"]
    assert len({bell["headers"]["id"] for bell in bells(client, "compute")}) == 2
    assert len({bell["properties"]["delivery_tag"] for bell in bells(client, "compute")}) == 2


def test_a_bell_is_a_message_of_celerys_own_kind(doorbell, client):
    dispatch.ring(["network"])
    with app.connection_for_write(doorbell.url) as connection:
        producer = app.amqp.Producer(connection)
        app.send_task("execute", ("network",), queue="network", ignore_result=True, retry=False, producer=producer)

    theirs, ours = bells(client, "network")

    assert set(theirs) == set(ours)
    assert set(theirs["headers"]) == set(ours["headers"])
    assert theirs["body"] == ours["body"]
    assert ours["properties"]["delivery_info"] == {"exchange": "", "routing_key": "network"}
    assert ours["headers"]["parent_id"] is None
    assert ours["headers"]["root_id"] == ours["headers"]["id"]


def test_a_queue_that_is_full_gets_no_more_bells(client):
    dispatch.ring(["compute"] * 1000)
    dispatch.ring(["compute"] * 1000 + ["model"])

    assert client.llen("compute") == LANES["compute"].bells
    assert client.llen("model") == 1


def test_unknown_lanes_are_not_rung(client):
    assert dispatch.ring(["nowhere"])
    assert client.keys("*") == []


def test_a_dead_redis_costs_nothing_and_nobody_notices_when_it_is_back(doorbell, client):
    assert dispatch.ring(["compute"])
    os.kill(doorbell.pid, signal.SIGKILL)
    assert wait_until(lambda: not doorbell.alive(), timeout_s=5)

    assert seconds(lambda: dispatch.ring(["compute"])) < 0.5
    assert not dispatch.ring(["compute"])
    doorbell.start()
    assert wait_until(lambda: dispatch.ring(["compute"]), timeout_s=5)
    assert client.llen("compute") == 1


def test_a_hung_redis_is_waited_for_once_and_briefly(doorbell, client):
    assert dispatch.ring(["compute"])
    os.kill(doorbell.pid, signal.SIGSTOP)
    try:
        assert seconds(lambda: dispatch.ring(["compute"])) < 0.7
        assert seconds(lambda: [dispatch.ring(["compute"]) for _ in range(100)]) < 0.1
    finally:
        os.kill(doorbell.pid, signal.SIGCONT)
    assert wait_until(lambda: dispatch.ring(["compute"]), timeout_s=5)


def test_a_connection_that_a_restart_broke_costs_no_bell(doorbell, client):
    assert dispatch.ring(["compute"])
    doorbell.stop()
    doorbell.start()

    assert dispatch.ring(["compute"])
    assert client.llen("compute") == 1
