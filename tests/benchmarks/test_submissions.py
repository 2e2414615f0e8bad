"""W5: submissions a second over HTTP with a JWT, beside an empty DRF view on the same server."""

import json
import statistics
import sys
from contextlib import ExitStack

import httpx
import pytest

from agentsys.infrastructure.processes import free_port
from tests.benchmarks.load import CONNECTIONS, Target, rate
from tests.benchmarks.stack import START_S, stack, tree_cpu_s, wait_until
from tests.benchmarks.work import chain

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
ROUNDS = 5
PASSWORD = "bench-password-1"
#: Runs in a batch; its plans have one step.
BATCH = 500


def _serve(servers, name: str, app: str):
    port = free_port()
    command = ("granian", "--interface", "asginl", "--port", str(port), "--no-access-log", app)
    child = servers.run(name, sys.executable, "-m", *command)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until(lambda: _answers(client), timeout_s=START_S, pause_s=0.2)
    return port, child.pid


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code < 500
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def measured():
    """For each target: (requests a second, CPU ms of its server a request), the median of rounds in turn."""
    with ExitStack() as ending:
        servers = ending.enter_context(stack())
        servers.manage("prepare", DEFAULT_ADMIN_PASSWORD=PASSWORD)
        web, web_pid = _serve(servers, "web", "agentsys.asgi:application")
        empty, empty_pid = _serve(servers, "empty", "tests.benchmarks.empty:application")
        headers = {"Content-Type": "application/json"}
        token = httpx.post(
            f"http://127.0.0.1:{web}/api/v1/auth/token", json={"username": "admin", "password": PASSWORD}
        )
        signed = headers | {"Authorization": f"Bearer {token.raise_for_status().json()['access']}"}
        single = json.dumps({"agent": "assistant", "plan": chain()}).encode()
        short = {"agent": "assistant", "plan": chain(1)}
        many = json.dumps({"runs": [short] * BATCH}).encode()
        targets = {
            "empty": (Target(empty, "/empty", single, headers), empty_pid, 1000),
            "single": (Target(web, "/api/v1/runs", single, signed), web_pid, 1000),
            "short": (Target(web, "/api/v1/runs", json.dumps(short).encode(), signed), web_pid, 1000),
            "batch": (Target(web, "/api/v1/runs/batch", many, signed), web_pid, CONNECTIONS),
        }
        for target, _, requests in targets.values():
            rate(target, max(CONNECTIONS, requests // 5))  # warm
        rounds = [{name: _measured(*how) for name, how in targets.items()} for _ in range(ROUNDS)]
        yield {name: _median([found[name] for found in rounds]) for name in targets}


def _median(found: list[tuple[float, float]]) -> tuple[float, float]:
    rates, costs_ms = zip(*found, strict=True)
    return statistics.median(rates), statistics.median(costs_ms)


def _measured(target: Target, pid: int, requests: int) -> tuple[float, float]:
    before_s = tree_cpu_s(pid)
    found = rate(target, requests)
    return found, (tree_cpu_s(pid) - before_s) / requests * 1e3


def test_a_submission_reaches_a_good_part_of_an_empty_views_rate(measured):
    """A JWT, a plan of 10 steps, one commit; against a view that does nothing, in a Django that has nothing."""
    (empty, empty_ms), (single, single_ms) = measured["empty"], measured["single"]
    print(f"\nW5 empty DRF view {empty:6.0f}/s {empty_ms:5.2f} ms CPU of its server")
    print(f"W5 one submission {single:6.0f}/s {single_ms:5.2f} ms CPU of the web process, {single / empty:.2f} of it")
    assert single >= 0.4 * empty


def test_a_batch_records_many_times_more_runs_than_single_submissions(measured):
    short, (batches, batch_ms) = measured["short"][0], measured["batch"]
    runs = batches * BATCH
    print(f"\nW5 batches of {BATCH}: {runs:6.0f} runs/s {batch_ms / BATCH:5.2f} ms CPU of the web process a run")
    print(f"one by one {short:.0f} runs/s; a batch {runs / short:.1f} times as many")
    assert runs >= min(5_000, 10 * short)
