"""Child processes that cannot outlive us, and the small checks around them.  No Django here.

A child runs in a session of its own (a Ctrl-C in the terminal reaches only the supervisor, which
stops all in order), gets a signal from the kernel when its parent ends, and takes its whole process
group with it.  Start children from the main thread: the kernel watches the *thread* that forked.
"""

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LAUNCHER = Path(__file__).with_name("processes_launch.py")
POLL_S = 0.02
PORT_TRIES = 50


class SetupFailed(Exception):
    """A part of the set-up cannot work; the message is one line that says what to do."""


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: ``preferred`` if it is free, else any."""
    with reserve_port(preferred) as held:
        return int(held.getsockname()[1])


def reserve_port(preferred: int | None = None) -> socket.socket:
    """Hold a free TCP port of 127.0.0.1 against everybody but a server of ours with SO_REUSEPORT.

    Granian sets SO_REUSEPORT: without this, two stacks that chose one port would share its requests.
    """
    for port in (*filter(None, [preferred]), *random.sample(_lasting_ports(), PORT_TRIES)):
        if held := _hold(port):
            return held
    raise SetupFailed(f"no free port on 127.0.0.1 in {PORT_TRIES} tries")


def _lasting_ports() -> range:
    """Ports that the kernel gives to nobody's outgoing connection.

    A server that restarts on one of the others may find it in use by one of its own clients; and a
    client that tries to reach it meanwhile may even connect to itself.
    """
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32768
    return range(10_240, first) if first > 12_000 else range(61_000, 65_536)


def _hold(port: int) -> socket.socket | None:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: pass over TIME_WAIT
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # only now: no other may share it
    return held


def wait_until(ready: Callable[[], bool], *, timeout_s: float, every_s: float = POLL_S) -> bool:
    """Ask ``ready`` again and again.  Returns whether it said yes within ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def user_name() -> str:
    """The name of the user we run as.  Raises SetupFailed for a uid without a passwd entry."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise SetupFailed(
            f"user id {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL insists on: "
            "add one, or set DATABASE_URL and REDIS_URL to servers of your own"
        ) from None


def _private(path: str, flags: int) -> int:
    """Opens a file that only we may read, if it has to be made."""
    return os.open(path, flags, 0o600)


class Process:
    """One child: started through the launcher, logged to a file, stopped within a bounded time."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        stdin: str = "",
    ) -> None:
        self.name, self.command, self.log, self.env, self.cwd = name, list(command), log, env, cwd
        self.user, self.death_signal, self.stdin = user, death_signal, stdin
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the child; returns at once.  ``stdin`` keeps secrets out of the command line.

        Raises:
            SetupFailed: it runs already, or the log cannot be written.
        """
        if self.alive():
            raise SetupFailed(f"{self.name} runs already (pid {self.pid})")
        try:
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.log, "ab", opener=_private) as log:  # appends: it may be cut while in use
                self._popen = self._spawn(log.fileno())
        except OSError as error:
            raise SetupFailed(f"{self.name} cannot be started: {error}") from error
        self._feed()

    def restart(self) -> None:
        """As ``start``; the name under which servers, too, are started again."""
        self.start()

    def _spawn(self, log: int) -> "subprocess.Popen[bytes]":
        launch = [sys.executable, "-I", "-S", str(LAUNCHER)]
        tie = [str(os.getpid()), str(int(self.death_signal)), self.user or "-"]
        return subprocess.Popen(  # noqa: S603 - every command is ours
            [*launch, *tie, *self.command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=self.env,
            cwd=self.cwd,
            start_new_session=True,
        )

    def _feed(self) -> None:
        assert self._popen
        assert self._popen.stdin
        # A broken pipe: it ended at once, and whoever waits for it says so.
        with contextlib.suppress(BrokenPipeError), self._popen.stdin as pipe:
            pipe.write(self.stdin.encode())

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started; negative: ended by that signal."""
        return self._popen.returncode if self._popen else None

    def alive(self) -> bool:
        """Whether the child runs.  When it has ended, what is left of its group is killed."""
        if self._popen is None or self._popen.returncode is not None:
            return False
        # WNOWAIT leaves it a zombie for a moment, so that its pid still names its own group.
        if os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return True
        self.send_group(signal.SIGKILL)
        self._popen.wait()
        return False

    def send(self, signum: signal.Signals) -> None:
        if self.alive() and self._popen:
            self._popen.send_signal(signum)

    def send_group(self, signum: signal.Signals) -> None:
        if self._popen is None or self._popen.returncode is not None:
            return  # reaped: the number may belong to somebody else by now
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or not yet in its session
            os.killpg(self._popen.pid, signum)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within ``timeout_s`` seconds."""
        return wait_until(lambda: not self.alive(), timeout_s=timeout_s)

    def stop(self, signum: signal.Signals = signal.SIGTERM, *, timeout_s: float = 10.0) -> None:
        """Ask it to end; after ``timeout_s`` seconds kill it and its group."""
        self.send(signum)
        if not self.wait(timeout_s):
            self.send_group(signal.SIGKILL)
            self.send(signal.SIGKILL)
            self.wait(5.0)

    def last_words(self, *, max_bytes: int = 4000) -> list[str]:
        """The last lines of its log, oldest first; for the one line that says why it failed."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - max_bytes))
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []
