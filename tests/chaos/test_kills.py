"""Chains run on a whole stack while its processes are killed and Redis is emptied.

A witness file, which only the tools write to, says how often each unsafe call really happened.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from agentsys.infrastructure.embedded import scratch
from tests.support.stack import ROOT, Up, environment

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]
A_FAULT, STEPS = 4, 10  # runs submitted between two faults, steps of a run
PAUSE_S = 1.5
END_S = 180.0
VICTIMS = [
    *("worker-compute", "worker-network", "worker-system", "worker-model", "web", "redis", "postgres"),
    *("child", "child", "flush", "worker-compute", "postgres", "redis"),
]


def chain(n: int) -> dict:
    """Pure, idempotent and unsafe steps in both kinds of pool, and a timer."""
    steps = [{"key": "s0", "tool": "test.echo", "arguments": {"value": n}}]
    for i in range(1, STEPS):
        tool = ("test.echo", "test.far", "test.charge")[i % 3]
        arguments = {} if tool == "test.charge" else {"value": f"${{s{i - 1}}}"}
        steps.append({"key": f"s{i}", "tool": tool, "arguments": arguments, "depends_on": [f"s{i - 1}"]})
    steps.append({"key": "pause", "kind": "wait", "arguments": {"seconds": 0.5}, "depends_on": [f"s{STEPS - 1}"]})
    return {"steps": steps, "answer": {"first": "${s0}"}}


class Client:
    """A user who tries again, as users do; each submission under its own Idempotency-Key."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.http = httpx.Client(timeout=10)

    def close(self) -> None:
        self.http.close()

    def login(self) -> None:
        at = self.up.endpoints
        answer = self.http.post(
            f"{at['api']}/auth/token", json={"username": at["username"], "password": at["password"]}
        )
        self.http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access']}"

    def call(self, method: str, path: str, **how) -> httpx.Response:
        end = time.monotonic() + 90
        while True:
            try:
                answer = self.http.request(method, f"{self.up.endpoints['api']}/{path}", **how)
                if answer.status_code < 500:
                    return answer
            except httpx.HTTPError:
                pass
            assert time.monotonic() < end, f"{method} {path} did not go through within 90 s"
            time.sleep(0.3)

    def submit(self, n: int) -> str:
        answer = self.call("POST", "runs", json={"plan": chain(n)}, headers={"Idempotency-Key": f"chain-{n}"})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]


def kill(up: Up, victim: str, dice: random.Random) -> None:
    """kill -9 of one process of the stack, or of one pool child, or FLUSHALL."""
    pids = up.endpoints["processes"]
    if victim == "flush":
        flush(up)
    elif victim == "child":
        children = children_of(pids["worker-compute"])
        if children:
            strike(dice.choice(children).pid)
    else:
        strike(pids[victim])


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def strike(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it is being restarted
        psutil.Process(pid).send_signal(signal.SIGKILL)


def flush(up: Up) -> None:
    try:
        url = json.loads((up.folder / "services.json").read_text())["redis_url"]
        with redis.Redis.from_url(url, socket_timeout=2) as connection:
            connection.flushall()
    except redis.RedisError:
        pass  # it is being restarted


def settle(client: Client, ids: list[str], witness: Path) -> dict[str, dict]:
    """Wait until all runs have ended; where nobody knows, say what the witness has seen of the call."""
    end = time.monotonic() + END_S
    left, ended = set(ids), {}
    while left:
        assert time.monotonic() < end, {i: client.call("GET", f"runs/{i}").json() for i in sorted(left)[:3]}
        for run_id in sorted(left):
            run = client.call("GET", f"runs/{run_id}").json()
            if run["finished_at"]:
                ended[run_id] = run
                left.discard(run_id)
            elif run["reason"] == "outcome_unknown":
                resolve(client, run_id, witness)
        time.sleep(0.2)
    return ended


def resolve(client: Client, run_id: str, witness: Path) -> None:
    seen = set(witness.read_text().splitlines())
    steps = client.call("GET", f"runs/{run_id}/steps").json()["results"]
    for step in steps:
        if step["status"] == "waiting":
            happened = f"charge {run_id}:{step['key']}" in seen
            body = {"outcome": "done", "result": "charged"} if happened else {"outcome": "not_done"}
            client.call("POST", f"runs/{run_id}/steps/{step['key']}/resolve", json=body)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the servers' own user can reach."""
    with scratch() as folder:
        (folder / "data").mkdir()
        (folder / "witness.log").touch()
        yield folder


@pytest.mark.parametrize("seed", [int(n) for n in os.environ.get("CHAOS_SEEDS", "1").split(",")])
def test_everything_ends_once_whatever_is_killed(place, seed):
    dice, witness = random.Random(seed), place / "witness.log"
    more = {"AGENTSYS_TOOL_MODULES": "tests.support.tools", "WITNESS": str(witness), "AGENTSYS_LEASE_S": "6"}
    up = Up(place / "data", **more, AGENTSYS_HEARTBEAT_S="2").wait_until_ready()
    client, ids = Client(up), []
    try:
        client.login()
        for victim in dice.sample(VICTIMS, len(VICTIMS)):
            ids += [client.submit(len(ids) + n) for n in range(A_FAULT)]
            kill(up, victim, dice)
            time.sleep(PAUSE_S)  # let the next fault meet work that has begun again
        runs = settle(client, ids, witness)
        assert [run for run in runs.values() if run["status"] != "succeeded"] == []
        assert [runs[i]["result"] for i in ids] == [{"first": n} for n in range(len(ids))]
        assert_charged_once(witness, ids)
        verify(up, ids, place)
    finally:
        client.close()
        up.end(signal.SIGINT)


def assert_charged_once(witness: Path, ids: list[str]) -> None:
    """Each unsafe step of each run really happened, and happened once."""
    calls = Counter(witness.read_text().splitlines())
    unsafe = [step["key"] for step in chain(0)["steps"] if step.get("tool") == "test.charge"]
    assert calls == {f"charge {run_id}:{key}": 1 for run_id in ids for key in unsafe}


def verify(up: Up, ids: list[str], folder: Path) -> None:
    known = folder / "acknowledged"
    known.write_text("\n".join(ids))
    done = subprocess.run(
        [sys.executable, "manage.py", "verify", "--acknowledged", str(known)],
        cwd=ROOT, env=environment(up.folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
