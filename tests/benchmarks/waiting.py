"""Steps that wait for a slow server: a stack with ``network`` workers, and what a number of calls costs it."""

import sys
import time
from dataclasses import dataclass

import httpx
import psutil
import psycopg

from agentsys.infrastructure.processes import free_port
from tests.benchmarks.stack import START_S, Stack, tree_cpu_s, wait_until

PASSWORD = "bench-password-1"
MAX_BATCH = 1_000


@dataclass(frozen=True)
class Waited:
    """``wall_s`` from the submission to the last committed result; ``mb_a_call`` what the worker grew by, ``cpu_ms``
    its user and system time a call."""

    wall_s: float
    mb_a_call: float
    cpu_ms: float


class Calls:
    """A web process, a slow server and so many workers of the lane ``network``, or of ``model``."""

    def __init__(self, stack: Stack, *, seconds: float, workers: int, slots: int = 16, lane: str = "network") -> None:
        self.stack, self.seconds, self._slots, self._lane = stack, seconds, slots, lane
        web_port, self._slow_port = free_port(), free_port()
        stack.env["AGENTSYS_HTTP_ALLOW"] = f"127.0.0.1:{self._slow_port}"
        stack.env |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{self._slow_port}/v1", "OPENAI_API_KEY": "k"}
        if lane == "model":
            stack.env["AGENTSYS_MODEL"] = "openai-chat:slow"
        stack.manage("prepare", DEFAULT_ADMIN_PASSWORD=PASSWORD)
        self.db = psycopg.connect(stack.env["DATABASE_URL"], autocommit=True)
        stack.run("slow", sys.executable, "-m", "tests.benchmarks.slow_server", str(self._slow_port), str(seconds))
        stack.run(
            *("web", sys.executable, "-m", "granian", "--interface", "asginl", "--port", str(web_port)),
            *("--no-access-log", "agentsys.asgi:application"),
        )
        self.workers = [self.add_worker() for _ in range(workers)]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{web_port}", timeout=60)
        wait_until(self.ready, timeout_s=START_S, pause_s=0.2)
        answer = self._http.post("/api/v1/auth/token", json={"username": "admin", "password": PASSWORD})
        self._http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access']}"

    def add_worker(self) -> psutil.Process:
        name = f"{self._lane}-{self.stack.count(self._lane)}"
        command = ["-m", "workers", self._lane, "--concurrency", str(self._slots), "--name", name]
        return psutil.Process(self.stack.run(name, sys.executable, *command).pid)

    def ready(self) -> bool:
        try:
            row = self.db.execute("SELECT count(*) FROM infrastructure_worker").fetchone()
            return self._http.get("/healthz").status_code == 200 and row is not None and row[0] >= len(self.workers)
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()
        self.db.close()

    def submit(self, calls: int) -> None:
        fetch = {"key": "a", "tool": "http.get", "arguments": {"url": f"http://127.0.0.1:{self._slow_port}/"}}
        say = {"key": "a", "kind": "answer", "objective": "Say ok."}
        step = fetch if self._lane == "network" else say
        for first in range(0, calls, MAX_BATCH):
            run = {"agent": "assistant", "plan": {"steps": [step]}, **self._more()}
            runs = [run] * min(MAX_BATCH, calls - first)
            self._http.post("/api/v1/runs/batch", json={"runs": runs}).raise_for_status()

    def _more(self) -> dict[str, str]:
        return {"model": "openai-chat:slow"} if self._lane == "model" else {}

    def unfinished(self) -> int:
        row = self.db.execute("SELECT count(*) FROM runs_run WHERE finished_at IS NULL").fetchone()
        return int(row[0]) if row else 0

    def failed(self) -> int:
        row = self.db.execute("SELECT count(*) FROM runs_run WHERE status = 'failed'").fetchone()
        return int(row[0]) if row else 0

    def wait_for(self, calls: int) -> Waited:
        """Submit, and wait until all have come back."""
        before, most, used_s, begun = self._memory(), 0, self._cpu_s(), time.perf_counter()
        self.submit(calls)
        while self.unfinished():
            assert time.perf_counter() - begun < 60 + calls * self.seconds, "the calls do not end"
            most = max(most, self._memory())
            time.sleep(0.05)
        wall_s = time.perf_counter() - begun
        return Waited(wall_s, (most - before) / calls / 2**20, (self._cpu_s() - used_s) / calls * 1e3)

    def _cpu_s(self) -> float:
        return sum(tree_cpu_s(worker.pid) for worker in self.workers)

    def _memory(self) -> int:
        return sum(worker.memory_info().rss for worker in self.workers)
