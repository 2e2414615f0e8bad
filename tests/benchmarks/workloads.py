"""W1, W2 and W3 on agentsys and on the baseline: steps a second, CPU a step, latency."""

import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import httpx
import psycopg

from agentsys.core.ids import uuid7
from tests.benchmarks.stack import START_S, WORKERS, Stack, tree_cpu_s, wait_until
from tests.benchmarks.work import CHAIN, FAN, chain, fan

CLIENTS = 4


@dataclass(frozen=True)
class Cost:
    """``cpu_ms`` is user and system time a step of all processes but the load generator, ``web_ms`` web's share."""

    steps_per_s: float
    cpu_ms: float
    web_ms: float = 0.0


class Peer(ABC):
    """One side of a comparison: starts a run, and knows how many steps are done."""

    done_sql = ""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.db = psycopg.connect(stack.env["DATABASE_URL"], autocommit=True)

    @abstractmethod
    def submit(self, n: int) -> None:
        """Start one chain."""

    @abstractmethod
    def submit_fan(self, n: int) -> None:
        """Start one fan."""

    def web_s(self) -> float:
        """CPU seconds so far of the process that takes submissions."""
        return 0.0

    def close(self) -> None:
        self.db.close()

    def done(self) -> int:
        row = self.db.execute(self.done_sql).fetchone()  # type: ignore[call-overload]
        return int(row[0]) if row else 0

    def w1(self, runs: int) -> Cost:
        """``runs`` chains at once."""
        return self._at_once(self.submit, runs, CHAIN)

    def w2(self, runs: int) -> Cost:
        """``runs`` fans at once: one step, many beside each other, one that waits for all."""
        return self._at_once(self.submit_fan, runs, FAN + 2)

    def _at_once(self, submit: Callable[[int], None], runs: int, steps_each: int) -> Cost:
        before, cpu_s, web_s, begun = self.done(), self.stack.cpu_s(), self.web_s(), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(submit, range(runs)))
        wait_until(lambda: self.done() - before >= runs, timeout_s=300, pause_s=0.05)
        steps = runs * steps_each
        wall_s, used_s = time.perf_counter() - begun, self.stack.cpu_s() - cpu_s
        return Cost(steps / wall_s, used_s / steps * 1e3, (self.web_s() - web_s) / steps * 1e3)

    def w3(self, runs: int) -> list[float]:
        """One chain at a time; (end - submission) / steps in ms, sorted."""
        took = []
        for n in range(runs):
            before, begun = self.done(), time.perf_counter()
            self.submit(n)
            wait_until(lambda before=before: self.done() > before, timeout_s=60, pause_s=0.001)  # type: ignore[misc]
            took.append((time.perf_counter() - begun) / CHAIN * 1e3)
        return sorted(took)


class Agentsys(Peer):
    """Submitted over HTTP with a JWT; web and worker processes count."""

    done_sql = "SELECT count(*) FROM runs_run WHERE finished_at IS NOT NULL AND id > %s"

    def __init__(self, stack: Stack, port: int) -> None:
        super().__init__(stack)
        self._since = UUID(int=0)
        stack.manage("prepare", DEFAULT_ADMIN_PASSWORD="bench-password-1")
        self._web = stack.run(
            *("web", sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--no-access-log"),
            "agentsys.asgi:application",
        )
        stack.run("compute", sys.executable, "-m", "workers", "compute", "--concurrency", str(WORKERS))
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        wait_until(self._ready, timeout_s=START_S, pause_s=0.2)
        answer = self._http.post("/api/v1/auth/token", json={"username": "admin", "password": "bench-password-1"})
        self._http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access']}"
        self._chain = {"agent": "assistant", "plan": chain()}
        self._fan = {"agent": "assistant", "plan": fan()}

    def forget(self) -> None:
        """Count only what is submitted from now on, so that the count reads nothing of what was before."""
        self._since = uuid7()

    def done(self) -> int:
        row = self.db.execute(self.done_sql, [self._since]).fetchone()
        return int(row[0]) if row else 0

    def web_s(self) -> float:
        return tree_cpu_s(self._web.pid)

    def close(self) -> None:
        self._http.close()
        super().close()

    def _ready(self) -> bool:
        try:
            row = self.db.execute("SELECT count(*) FROM infrastructure_worker").fetchone()
            return self._http.get("/healthz").status_code == 200 and bool(row and row[0])
        except (httpx.HTTPError, psycopg.Error):
            return False

    def submit(self, n: int) -> None:
        self._http.post("/api/v1/runs", json=self._chain).raise_for_status()

    def submit_fan(self, n: int) -> None:
        self._http.post("/api/v1/runs", json=self._fan).raise_for_status()

    def one(self, steps: int) -> UUID:
        """A chain of so many steps, finished."""
        before = self.done()
        answer = self._http.post("/api/v1/runs", json={"agent": "assistant", "plan": chain(steps)})
        wait_until(lambda: self.done() > before, timeout_s=60)
        return UUID(answer.raise_for_status().json()["id"])


class Baseline(Peer):
    """Plain Celery: a task and an INSERT a step."""

    done_sql = (
        f"SELECT count(*) FROM baseline_step s WHERE n = {FAN + 1} OR n = {CHAIN - 1} "
        "AND NOT EXISTS (SELECT 1 FROM baseline_fan f WHERE f.run = s.run)"
    )

    def __init__(self, stack: Stack, send: Callable[[int], None], send_fan: Callable[[int], None]) -> None:
        super().__init__(stack)
        self._send, self._send_fan, self._next = send, send_fan, 0
        stack.run(
            *("baseline", sys.executable, "-m", "celery", "-q", "-A", "tests.benchmarks.baseline", "worker"),
            *("-Q", "baseline", "-c", str(WORKERS), "--without-mingle", "--without-gossip", "-E"),
        )
        self.submit(0)
        wait_until(lambda: self.done() > 0, timeout_s=START_S, pause_s=0.2)

    def submit(self, n: int) -> None:
        self._next += 1
        self._send(self._next)

    def submit_fan(self, n: int) -> None:
        self._next += 1
        self._send_fan(self._next)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def report(name: str, w1: Cost, w2: Cost, w3: list[float]) -> str:
    return (
        f"{name:10} W1 {w1.steps_per_s:7.0f} steps/s {w1.cpu_ms:6.2f} ms CPU/step   "
        f"W2 {w2.steps_per_s:7.0f} steps/s {w2.cpu_ms:6.2f} ms CPU/step   "
        f"W3 p50 {statistics.median(w3):6.2f} ms p99 {percentile(w3, 0.99):6.2f} ms a step"
    )
