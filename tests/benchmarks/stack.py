"""Real servers and workers for a workload, and what their process trees cost."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from agentsys.infrastructure.embedded import Postgres, Redis, scratch

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
START_S = 60


class Stack:
    """A PostgreSQL with its default durability, a Redis, and the processes started through ``run``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgres, self.redis = Postgres(folder / "pg"), Redis(folder / "redis")
        self._children: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "DATABASE_URL": self.postgres.start(),
            "REDIS_URL": self.redis.start(),
            "SECRET_KEY": "only-for-benchmarks-0123456789-0123456789",
            "AGENTSYS_DATA_DIR": str(folder / "data"),
            "AGENTSYS_TOOL_MODULES": "tests.benchmarks.work",
            "AGENTSYS_LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
        }

    def manage(self, *words: str, **env: str) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        subprocess.run(command, env=self.env | env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)

    def run(self, name: str, *command: str, **env: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, env=self.env | env, cwd=ROOT, stdout=log, stderr=log)
        self._children.append(child)
        return child

    def count(self, name: str) -> int:
        """How many processes of this kind there are."""
        return sum(any(name in word for word in child.args) for child in self._children)  # type: ignore[union-attr]

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def end(self, child: subprocess.Popen[bytes]) -> None:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._children.remove(child)

    def close(self) -> None:
        for child in list(self._children):
            self.end(child)
        self.redis.stop()
        self.postgres.stop()

    def cpu_s(self) -> float:
        """CPU seconds so far of everything but this process: servers, workers and their ended children."""
        roots = [self.postgres.pid, self.redis.pid, *(child.pid for child in self._children)]
        return sum(tree_cpu_s(pid) for pid in roots if pid)


def tree_cpu_s(pid: int) -> float:
    """CPU seconds so far of a process and all below it, ended children included."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_cpu_s(process) for process in tree)


def _cpu_s(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return used.user + used.system + used.children_user + used.children_system


@contextmanager
def stack() -> Iterator[Stack]:
    with scratch() as folder:
        made = Stack(folder)
        try:
            yield made
        finally:
            made.close()


def wait_until(true: Callable[[], bool], *, timeout_s: float, pause_s: float = 0.02) -> None:
    """Poll an outside fact; this is a load generator, and what it watches is other processes."""
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not true within {timeout_s} s")
        time.sleep(pause_s)
