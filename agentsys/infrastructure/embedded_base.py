"""What the two embedded servers share: a lock, a kept secret and port, start, readiness, stop."""

import fcntl
import json
import os
import re
import secrets
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from agentsys.infrastructure import embedded_places as places
from agentsys.infrastructure.processes import Process, SetupFailed, free_port, wait_until

PORT_TRIES = 5
ERROR_LINE = re.compile(r"FATAL|PANIC|CRITICAL|ERROR|[Ee]rror\b.*:|Fatal")
ORPHANS_S = 0.5
ORPHANS_KILLED_S = 10.0
LOOK_FOR_ORPHANS_EVERY_S = 0.05  # each look reads every process of the machine


def write_private(path: Path, content: str) -> None:
    """Write ``content`` whole or not at all, readable by us only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Server(ABC):
    """An embedded server with its data in ``data_dir`` (made if missing).

    ``start`` may be called again after a crash: password and, if it is still free, port stay.
    """

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, *, log: Path | None = None, port: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.log = log or self.data_dir / "logs" / f"{self.name}.log"
        self.wanted_port = port
        self.port = 0
        self.process: Process | None = None
        self._lock: int | None = None

    # --- What a server says about itself ---------------------------------------------
    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it, with the password."""

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def prepare(self) -> None:
        """Before a start: make the data folder, clear what a crash left."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether *our* process owns the port and the data, and answers."""

    # --- Start and stop --------------------------------------------------------------
    def start(self, *, timeout_s: float = 60.0) -> str:
        """Start and wait until it answers.  Returns its URL.  About 0.3 s, the first time 2 s.

        Raises:
            SetupFailed: with one line that says why.
        """
        with self._stopped_on_error():
            self._prepare()
            for _ in range(PORT_TRIES):
                self.port = self._choose_port()
                if self._try_start(timeout_s):
                    return self.url
            raise SetupFailed(f"{self.name} found no free port on 127.0.0.1 in {PORT_TRIES} tries")

    def restart(self) -> None:
        """Start again at the same address after a crash; returns when the process is there, ready or not.

        Whoever looks after others, too, must not wait for a recovery.

        Raises:
            SetupFailed: with one line that says why.
        """
        with self._stopped_on_error():
            self._prepare()
            self.port = self._choose_port()
            self.process = self.make_process()
            self.process.start()

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.stop()
            raise SetupFailed(f"{self.name} cannot be started: {error}") from error
        except BaseException:
            self.stop()
            raise

    def _prepare(self) -> None:
        self.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        places.check_space(self.data_dir)
        self.user = places.server_user()
        self.data = places.data_folder(self.data_dir, self.name, self.user)
        self._hold_lock()
        self._end_orphans()
        self.prepare()

    def _choose_port(self) -> int:
        kept = self.wanted_port or self.secrets.get("port")
        port = free_port(kept)
        if self.wanted_port and port != self.wanted_port:
            raise SetupFailed(f"port {self.wanted_port} for {self.name} is taken by another process")
        self.keep(port=port)
        return port

    def _try_start(self, timeout_s: float) -> bool:
        """False if another process took the port between our look and the server's."""
        self.process = self.make_process()
        self.process.start()
        process = self.process

        def settled() -> bool:
            return not process.alive() or self.ready()

        if wait_until(settled, timeout_s=timeout_s) and process.alive():
            self.wanted_port = self.port  # others know it now: a restart must not move it
            return True
        words = process.last_words()
        if any("Address already in use" in line for line in words[-8:]) and not process.alive():
            self.keep(port=None)
            return False
        process.stop(self.stop_signal)
        raise SetupFailed(f"{self.name} does not start: {reason(words)} (log: {self.log})")

    def make_process(self) -> Process:
        return Process(
            self.name,
            self.command(),
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=self.user,
            cwd=Path("/"),
            death_signal=signal.SIGKILL,
        )

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def exit_code(self) -> int | None:
        return self.process.exit_code if self.process else None

    def last_words(self) -> list[str]:
        return self.process.last_words() if self.process else []

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Stop within ``timeout_s`` seconds; nothing to do if it does not run."""
        if self.process:
            self.process.stop(self.stop_signal, timeout_s=timeout_s)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- What must outlive a start ---------------------------------------------------
    @property
    def _secrets_file(self) -> Path:
        return self.data_dir / f"{self.name}.json"

    @property
    def secrets(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._secrets_file.read_text())
            return kept
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise SetupFailed(f"{self._secrets_file} is damaged: {error}") from error

    def keep(self, **values: Any) -> None:
        if (kept := {**self.secrets, **values}) != self.secrets:
            write_private(self._secrets_file, json.dumps(kept))

    def password(self, name: str = "password") -> str:
        """A random password, made once; alphanumeric, as it goes into URLs and config lines."""
        if name not in self.secrets:
            self.keep(**{name: secrets.token_hex(24)})
        return str(self.secrets[name])

    # --- What a crash may have left --------------------------------------------------
    def _hold_lock(self) -> None:
        """One start at a time owns the data; the kernel frees the lock when we end."""
        if self._lock is not None:
            return
        lock = os.open(self.data.with_name(f"{self.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SetupFailed(f"{self.data} is in use: agentsys runs already with this data") from None
        self._lock = lock

    def _end_orphans(self) -> None:
        """Wait for processes that a killed parent left on this data; end those that stay.

        They cannot be anybody else's: we hold the lock.  A second server on the same data would
        destroy it; PostgreSQL's children outlive their main process, for long if they are busy.
        Killing them costs a recovery and loses nothing that was committed.
        """
        gone = partial(wait_until, lambda: not self._orphans(), every_s=LOOK_FOR_ORPHANS_EVERY_S)
        if gone(timeout_s=ORPHANS_S):
            return
        for process in self._orphans():
            on_gone(process.kill)
        if not gone(timeout_s=ORPHANS_KILLED_S):
            raise SetupFailed(f"processes of an earlier {self.name} on {self.data} do not end")

    def _orphans(self) -> list[psutil.Process]:
        """Processes that work in the data folder, as both servers do all their life."""
        data = str(self.data)
        return [process for process in psutil.process_iter() if on_gone(process.cwd) == data]


def on_gone(ask: Callable[[], Any]) -> Any:
    """The answer about a process; None if it has ended or is not ours to ask."""
    try:
        return ask()
    except psutil.Error:
        return None


def answers(port: int, question: bytes, expected: bytes) -> bool:
    """Whether the server on ``port`` answers ``question`` with something that has ``expected``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(question)
            heard = b""
            while expected not in heard and (more := connection.recv(4096)):
                heard += more
            return expected in heard
    except OSError:
        return False


def reason(words: list[str]) -> str:
    """The line of a log that says why: the last that names an error, else the last."""
    if any("No space left" in line for line in words):
        return "the disk is full"
    said = [line.strip() for line in words if line.strip()]
    telling = [line for line in said if ERROR_LINE.search(line)]
    return (telling or said or ["no word in its log"])[-1]
