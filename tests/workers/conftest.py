"""Real workers on a Redis that a test may kill, and on the tests' own database."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from django.db import connection
from rest_framework.test import APIClient

from agentsys.api import tokens
from agentsys.infrastructure.embedded import Redis, scratch
from agentsys.infrastructure.models import Worker as WorkerRow
from agentsys.infrastructure.processes import Process, wait_until
from agentsys.runs import verify
from agentsys.runs.models import Run
from tests.workers import probes
from workers import dispatch

ROOT = Path(__file__).parents[2]
START_S = 30.0
#: Settings of workers in tests: what takes half a minute in life takes seconds here.
QUICK = {
    "AGENTSYS_LEASE_S": "6",
    "AGENTSYS_HEARTBEAT_S": "1",
    "AGENTSYS_DRAIN_S": "2",
    "AGENTSYS_TOOL_MODULES": "tests.support.tools,tests.workers.probes",
}


def database_url() -> str:
    own = connection.settings_dict
    user, password = quote(own["USER"]), quote(own["PASSWORD"])
    return f"postgresql://{user}:{password}@{own['HOST']}:{own['PORT']}/{own['NAME']}"


class LiveWorker(Process):
    """``python -m workers LANE`` as a process of its own."""

    def __init__(
        self, lane: str, *, name: str = "", redis_url: str, data_dir: Path, slots: int, env: dict[str, str]
    ) -> None:
        self.lane, name = lane, name or lane
        settings = {"DATABASE_URL": database_url(), "REDIS_URL": redis_url, "AGENTSYS_DATA_DIR": str(data_dir)}
        command = [sys.executable, "-m", "workers", lane, "--concurrency", str(slots), "--name", name]
        environ = {**os.environ, **QUICK, **settings, **env}
        super().__init__(name, command, log=data_dir / f"{name}.log", env=environ, cwd=ROOT)

    def kill(self) -> None:
        """End it and its children at once; an orderly end takes seconds and has its own tests."""
        self.send_group(signal.SIGKILL)
        self.wait(5)

    def registered(self) -> bool:
        return WorkerRow.objects.filter(pid=self.pid).exists()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def log_text(self) -> str:
        return self.log.read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


@pytest.fixture
def doorbell(folder: Path, settings: Any) -> Iterator[Redis]:
    """A Redis of the test's own; this process rings it, too."""
    server = Redis(folder)
    settings.REDIS_URL = server.start()
    dispatch._line.forget()
    dispatch._breaker.__init__()  # type: ignore[misc]
    yield server
    server.stop()
    dispatch._line.forget()
    dispatch._breaker.__init__()  # type: ignore[misc]


@pytest.fixture
def start(transactional_db: None, doorbell: Redis, folder: Path) -> Iterator[Callable[..., LiveWorker]]:
    """Start a worker of a lane and wait until it works; in the end none is left, and the invariants hold."""
    started: list[LiveWorker] = []

    def begin(lane: str, *, name: str = "", slots: int = 2, **env: str) -> LiveWorker:
        worker = LiveWorker(lane, name=name, redis_url=doorbell.url, data_dir=folder, slots=slots, env=env)
        worker.start()
        started.append(worker)
        assert wait_until(worker.registered, timeout_s=START_S), worker.last_words()
        return worker

    yield begin
    for worker in started:
        worker.kill()
    assert [f for f in verify.check() if f.violations] == []


@pytest.fixture
def held(folder: Path) -> "Holder":
    return Holder(folder)


class Holder:
    """Steps that wait for the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "held"
        self._folder.mkdir()

    def step(self, key: str = "a", tool: str = "probe.hold", **fields: Any) -> dict[str, Any]:
        assert probes.PATIENCE_S
        return {"key": key, "tool": tool, "arguments": {"folder": str(self._folder)}, **fields}

    def pids(self, key: str = "a") -> set[int]:
        return {int(path.name.split("-")[-1]) for path in self._folder.glob(f"call-{key}-*")}

    def wait_for(self, calls: int = 1, key: str = "a", timeout_s: float = 15.0) -> set[int]:
        assert wait_until(lambda: len(self.pids(key)) >= calls, timeout_s=timeout_s), "the step was not started"
        return self.pids(key)

    def let_go(self) -> None:
        (self._folder / "go").touch()


@pytest.fixture
def api(transactional_db: Any, workspace: Any, make_user: Any, agent: Any) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(make_user(), workspace.pk).access}")
    return client


@pytest.fixture
def posted(api: APIClient) -> Any:
    def post(*steps: dict[str, Any], **fields: Any) -> Run:
        answer = api.post("/api/v1/runs", {"agent": "assistant", "plan": {"steps": steps}, **fields}, format="json")
        assert answer.status_code == 202, answer.json()
        return Run.objects.get(pk=answer.json()["id"])

    return post


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch, no_bell: Any, settings: Any) -> None:
    """Submissions ring, as they do in life."""
    settings.DISPATCHER = "workers.dispatch.ring"


def ended(run: Run, timeout_s: float = 20.0) -> Run:
    """The run once it has ended; wall time is waited for in PostgreSQL."""

    def has_ended() -> bool:
        run.refresh_from_db()
        return run.finished_at is not None

    assert wait_until(has_ended, timeout_s=timeout_s, every_s=0.05), (run.status, run.reason)
    return run
