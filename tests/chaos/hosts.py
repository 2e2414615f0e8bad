"""Hosts on one machine: each a network, a hostname and process numbers of its own, and a cable that can be pulled.

Needs root and Linux.  A host reaches nothing but the two servers, through a relay on its end of the cable.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from agentsys.infrastructure.processes import Process, wait_until
from tests.chaos.relay import Relay
from tests.support.stack import ROOT

_numbers = itertools.count(1)


def why_not() -> str:
    """Why this machine can have no hosts; empty if it can."""
    if os.geteuid() != 0:
        return "two hosts in network namespaces need root"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"two hosts in network namespaces need {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--uts", "--mount", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


class Host:
    """One host; ``name`` is its hostname."""

    def __init__(self, folder: Path, *, database_url: str, redis_url: str, env: dict[str, str]) -> None:
        number = next(_numbers)
        own = f"{os.getpid()}x{number}"
        self.name, self._here, self._there = f"h{own}", f"a{own}", f"b{own}"
        self._gate, self._own = f"10.213.{number}.1", f"10.213.{number}.2"
        self.folder = folder / self.name
        self.folder.mkdir()
        self._lay_cable()
        self._relays = [Relay(url, host=self._gate) for url in (database_url, redis_url)]
        self.env = {
            **env, "DATABASE_URL": self._relays[0].url, "REDIS_URL": self._relays[1].url,
            "AGENTSYS_DATA_DIR": str(self.folder),
        }  # fmt: skip
        self.workers: list[Process] = []

    def _lay_cable(self) -> None:
        for words in (
            f"netns add {self.name}",
            f"link add {self._here} type veth peer name {self._there} netns {self.name}",
            f"addr add {self._gate}/30 dev {self._here}",
            f"link set {self._here} up",
            f"-n {self.name} addr add {self._own}/30 dev {self._there}",
            f"-n {self.name} link set {self._there} up",
            f"-n {self.name} link set lo up",
        ):
            ip(words)

    def start(self, lane: str, *, slots: int) -> Process:
        inside = f"hostname {self.name} && exec {sys.executable} -m workers {lane} --concurrency {slots}"
        command = [
            *(
                shutil.which("ip") or "ip",
                "netns",
                "exec",
                self.name,
                "unshare",
                "--uts",
                "--pid",
                "--mount-proc",
                "--fork",
                "--kill-child",
            ),
            *("sh", "-c", inside),
        ]
        worker = Process(f"{self.name}-{lane}", command, log=self.folder / f"{lane}.log", env=self.env, cwd=ROOT)
        worker.start()
        self.workers.append(worker)
        return worker

    def logged(self, text: str) -> int:
        return sum(worker.log.read_text(errors="replace").count(text) for worker in self.workers)

    def pull(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        ip(f"link set {self._here} down")

    def plug(self) -> None:
        ip(f"link set {self._here} up")

    def close(self) -> None:
        for worker in self.workers:
            family = psutil.Process(worker.pid).children(recursive=True) if worker.alive() else []
            worker.send_group(signal.SIGKILL)
            worker.wait(5)
            wait_until(lambda family=family: not any(one.is_running() for one in family), timeout_s=5)  # type: ignore[misc]
        for relay in self._relays:
            relay.close()
        with suppress(subprocess.CalledProcessError):
            ip(f"netns del {self.name}")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def hosts(count: int, folder: Path, **settings: object) -> Iterator[list[Host]]:
    made: list[Host] = []
    try:
        for _ in range(count):
            made.append(Host(folder, **settings))  # type: ignore[arg-type]
        yield made
    finally:
        for host in made:
            host.close()
