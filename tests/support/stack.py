"""A whole stack of its own, started as a user starts it."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import psutil

from agentsys.infrastructure.processes import free_port, wait_until

ROOT = Path(__file__).parents[2]
UP_S, STOP_S = 120.0, 20.0


class Up:
    """A ``manage.py up`` of its own, with its data in ``folder``."""

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        self.folder, self.endpoints_file = folder, folder / "endpoints.json"
        self.log = folder / f"up-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            command = [sys.executable, "manage.py", "up", *options]
            self.process = Popen(command, cwd=ROOT, env=environment(folder, **environ), stdout=log, stderr=STDOUT)

    def __enter__(self) -> "Up":
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever a failed test left."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(2 * STOP_S)

    def wait_until_ready(self) -> "Up":
        over = lambda: "agentsys is up" in self.log.read_text() or self.process.poll() is not None  # noqa: E731
        assert wait_until(over, timeout_s=UP_S), self.log.read_text()
        assert self.process.poll() is None, self.log.read_text()
        return self

    @property
    def endpoints(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.endpoints_file.read_text())
        return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, signum: signal.Signals) -> int:
        """The exit code.  Fails if anything that it started is still there afterwards."""
        family = self.family()
        self.process.send_signal(signum)
        code = self.process.wait(STOP_S)
        assert wait_until(lambda: not any(map(runs, family)), timeout_s=STOP_S), [it for it in family if runs(it)]
        return code


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The tests' own settings would turn the stack away from its embedded services."""
    own = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "AGENTSYS_", "DJANGO_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    ports = {"AGENTSYS_PORT": str(free_port()), "AGENTSYS_FLOWER_PORT": str(free_port())}
    return {**kept, **ports, "AGENTSYS_DATA_DIR": str(folder), "AGENTSYS_ENV_FILE": str(folder / ".env"), **more}


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
