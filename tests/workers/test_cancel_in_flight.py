"""A cancel reaches the call that is under way: at once by a hint, with the next heartbeat without one."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import redis

from agentsys.infrastructure.processes import wait_until
from agentsys.runs import services
from agentsys.runs.dispatch import STOPPING
from agentsys.runs.models import Run
from agentsys.runs.store.change import locked
from tests.support.rows import photograph
from tests.support.web import Web, silent
from tests.support.worker import events
from tests.workers.conftest import ended

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ring")]
#: A heartbeat comes too late for what a hint brings.
SLOW_BEAT = {"AGENTSYS_LEASE_S": "60", "AGENTSYS_HEARTBEAT_S": "20"}
AT_ONCE_S = 3.0


@pytest.fixture
def slow_server() -> Iterator[Web]:
    """It answers nobody."""
    with Web(pages={"/slow": silent}) as web:
        yield web


@pytest.fixture
def network(start: Any, slow_server: Web) -> Callable[..., Any]:
    return lambda **env: start("network", AGENTSYS_HTTP_ALLOW=slow_server.address, **env)


def fetch(web: Web, key: str = "a", **fields: Any) -> dict[str, Any]:
    return {"key": key, "tool": "http.get", "arguments": {"url": web.url("/slow")}, **fields}


def asked(web: Web, times: int = 1) -> None:
    assert wait_until(lambda: len(web.seen) >= times, timeout_s=15), "the server was not asked"


def listening(server: Any) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return client.pubsub_numsub(STOPPING)[0][1] > 0


def open_connections(worker: Any, web: Web) -> int:
    theirs = psutil.Process(worker.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == web.port and one.status == "ESTABLISHED" for one in theirs)


def forge(server: Any, *messages: bytes) -> None:
    with redis.Redis.from_url(server.url) as client:
        for message in messages:
            client.publish(STOPPING, message)


def test_a_step_that_waits_for_a_server_is_ended_at_once(
    submit: Any, network: Any, slow_server: Web, doorbell: Any
) -> None:
    worker = network(**SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([fetch(slow_server), {"key": "b", "tool": "test.far", "depends_on": ["a"]}])
    asked(slow_server)
    assert open_connections(worker, slow_server) == 1

    begun = time.monotonic()
    services.cancel(run)
    run = ended(run, timeout_s=15)

    assert time.monotonic() - begun < AT_ONCE_S
    assert (run.status, run.reason) == ("cancelled", "user")
    assert [step.status for step in run.steps.order_by("id")] == ["cancelled", "cancelled"]
    assert run.steps.get(key="a").error["code"] == "step_cancelled"
    assert wait_until(lambda: not open_connections(worker, slow_server), timeout_s=5)
    assert not [one for one in events(run)[events(run).index("run.cancelling") :] if one.startswith("step.started")]


def test_a_failing_branch_ends_the_call_of_another_at_once(
    submit: Any, network: Any, slow_server: Web, doorbell: Any, start: Any
) -> None:
    network(**SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([fetch(slow_server), {"key": "b", "tool": "test.fail"}])
    asked(slow_server)

    start("compute", **SLOW_BEAT)
    run = ended(run, timeout_s=15)

    assert (run.status, run.error["code"], run.steps.get(key="a").status) == ("failed", "tool_failed", "cancelled")


def test_an_unsafe_call_cut_off_by_a_cancel_says_that_nobody_knows(
    submit: Any, network: Any, slow_server: Web, doorbell: Any
) -> None:
    network(**SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([{"key": "a", "tool": "probe.order", "arguments": {"url": slow_server.url("/slow")}}])
    asked(slow_server)

    services.cancel(run)
    run = ended(run, timeout_s=15)

    assert (run.status, run.steps.get().status) == ("cancelled", "cancelled")
    assert run.steps.get().error["code"] == "outcome_unknown"
    assert len(slow_server.seen) == 1


def test_without_redis_the_next_heartbeat_ends_it(submit: Any, network: Any, slow_server: Web, doorbell: Any) -> None:
    network(AGENTSYS_LEASE_S="10", AGENTSYS_HEARTBEAT_S="2")
    run = submit([fetch(slow_server)])
    asked(slow_server)
    os.kill(doorbell.pid, signal.SIGKILL)
    assert wait_until(lambda: not doorbell.alive(), timeout_s=5)

    services.cancel(run)
    run = ended(run, timeout_s=15)

    assert (run.status, run.steps.get().status) == ("cancelled", "cancelled")


def test_hints_are_heard_again_when_redis_is_back(submit: Any, network: Any, slow_server: Web, doorbell: Any) -> None:
    network(**SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    os.kill(doorbell.pid, signal.SIGKILL)
    assert wait_until(lambda: not doorbell.alive(), timeout_s=5)
    doorbell.start()
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([fetch(slow_server)])
    asked(slow_server)

    services.cancel(run)

    assert ended(run, timeout_s=15).status == "cancelled"


def test_forged_hints_change_nothing(submit: Any, network: Any, slow_server: Web, doorbell: Any) -> None:
    network(**SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run, cancelled = submit([fetch(slow_server)]), submit([fetch(slow_server)])
    asked(slow_server, times=2)
    before = _but_leases(run)

    forge(doorbell, b"", b"\xff\x00", b"[[[", b"{}", b"[null, 1]", json.dumps(["x", "", str(run.pk)] * 100).encode())
    for _ in range(200):
        forge(doorbell, json.dumps([str(run.pk)]).encode())
    services.cancel(cancelled)  # the listener is alive, and has heard all of that

    assert ended(cancelled, timeout_s=15).status == "cancelled"
    assert _but_leases(run) == before
    services.cancel(run)
    assert ended(run, timeout_s=15).status == "cancelled"


def _but_leases(run: Run) -> list[Any]:
    """Everything of a run but the time at which its lease ends, which a look may renew."""
    tables = photograph()
    mine = [row for rows in tables.values() for row in rows if str(run.pk) in (row.get("id"), row.get("run_id"))]
    return [{name: value for name, value in row.items() if name != "lease_expires_at"} for row in mine]


def test_a_tool_in_a_child_process_is_told_by_its_token(submit: Any, start: Any, doorbell: Any, held: Any) -> None:
    start("compute", **SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([held.step(tool="probe.patient"), {"key": "b", "tool": "test.echo", "depends_on": ["a"]}])
    held.wait_for()

    begun = time.monotonic()
    services.cancel(run)
    run = ended(run, timeout_s=15)

    assert time.monotonic() - begun < AT_ONCE_S
    assert (run.status, run.steps.get(key="b").status) == ("cancelled", "cancelled")
    assert (run.steps.get(key="a").status, run.steps.get(key="a").output) == ("succeeded", "told")


def test_a_late_hint_for_a_run_that_goes_on_is_harmless(submit: Any, start: Any, doorbell: Any, held: Any) -> None:
    start("network", **SLOW_BEAT)
    assert wait_until(lambda: listening(doorbell), timeout_s=10)
    run = submit([held.step(tool="probe.hold_far")])
    held.wait_for()
    with locked(run.pk) as change:
        change.event("message.test")
    forge(doorbell, json.dumps([str(run.pk)]).encode())

    held.let_go()

    assert ended(run).status == "succeeded"
