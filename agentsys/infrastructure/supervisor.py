"""Runs a whole stack on one machine: PostgreSQL, Redis, web, Flower, workers.  No Django here.

Starts them in order, waits until each is ready, restarts what ends, and stops all in order.  Nothing
outlives it, however it ends: by a signal it stops all itself; if it is killed, the kernel ends its
children and the guard theirs.  Must run in the main thread (see processes).
"""

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from agentsys.infrastructure.embedded import Postgres, Redis
from agentsys.infrastructure.embedded_base import Server, reason
from agentsys.infrastructure.processes import SetupFailed, reserve_port, wait_until
from agentsys.infrastructure.supervisor_children import Service, Stack, child_environ
from agentsys.infrastructure.supervisor_external import check_database, check_redis
from agentsys.infrastructure.supervisor_family import Family
from agentsys.infrastructure.supervisor_files import Files, cut_logs, hide_logs, keep_secret_key
from agentsys.infrastructure.supervisor_guard import Guard
from agentsys.infrastructure.supervisor_keeper import Keeper
from agentsys.infrastructure.supervisor_wanted import Wanted

LOOK_EVERY_S = 0.2
CUT_LOGS_EVERY_S = 10.0
READY_S, ASK_EVERY_S = 120.0, 0.1
KILL_S = 5.0
DEFAULT_PORT, DEFAULT_FLOWER_PORT = 8000, 5555
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A signal came while something was being started.  Not an Exception: nothing may swallow it."""


class Supervisor:
    """One stack.  ``with Supervisor(wanted, say) as stack: stack.watch()``.

    Args:
        wanted: see Wanted.
        say: called with one line for people whenever something happens.
    """

    def __init__(self, wanted: Wanted, say: Callable[[str], None]) -> None:
        self.wanted, self.say = wanted, say
        self.files = Files(wanted.data_dir)
        self.keepers: list[Keeper] = []
        self.stack: Stack
        self._guard, self._family = Guard(), Family()
        self._held: list[socket.socket] = []
        self._lock: int | None = None
        self._stopping, self._hurry = threading.Event(), threading.Event()
        self._interruptible = True  # a signal ends what we wait for, at once
        self._cut_logs_at = 0.0
        self._old_handlers: dict[signal.Signals, Any] = {}

    # --- The life of a stack ---------------------------------------------------------
    def __enter__(self) -> "Supervisor":
        self._listen_to_signals()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        self._interruptible = False
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Restart what ends, until a signal comes or ``until`` says so."""
        while not self._stopping.wait(LOOK_EVERY_S) and not until():
            self._look_after_children()
            self._watch_groups()
            self._family.reap(self._pids())
            if self._family.parent_interrupted():
                self._stopping.set()
            self._cut_logs()

    def _look_after_children(self) -> None:
        self._interruptible = True  # what a killed PostgreSQL left may take a while to end
        told = [line for keeper in self.keepers if (line := keeper.look())]
        self._interruptible = False
        for line in told:
            self.say(line)
        if told:
            self._tell()

    @property
    def stop_asked(self) -> bool:
        return self._stopping.is_set()

    # --- Start -----------------------------------------------------------------------
    def _start(self) -> None:
        if self.wanted.stop_with_parent:
            self._family.end_with_parent()
        self._family.adopt_orphans()
        self._hold_lock()
        self.files.untell()
        hide_logs(self.wanted.data_dir / "logs")
        self._choose_ports()
        self._start_servers()
        self._plan_stack()
        self._run_prepare()
        self._start_services()
        self._tell()

    def _hold_lock(self) -> None:
        keep_secret_key(self.wanted.data_dir)  # also makes the folder
        lock = os.open(self.wanted.data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = lock
        except BlockingIOError:
            os.close(lock)
            raise SetupFailed(f"agentsys runs already in {self.wanted.data_dir}; stop it first") from None

    def _start_servers(self) -> None:
        """The embedded servers, as far as no address of a real one is given."""
        folder = self.wanted.data_dir
        urls = {"database_url": self.wanted.database_url, "redis_url": self.wanted.redis_url}
        servers: dict[str, Server] = {
            "database_url": Postgres(folder, max_connections=self.wanted.connections()),
            "redis_url": Redis(folder),
        }
        checks = {"database_url": check_database, "redis_url": check_redis}
        for name, server in servers.items():
            if urls[name]:
                checks[name](urls[name])
            else:
                urls[name] = self._keep(server).url
                self.files.keep(**{name: urls[name]})
        self._urls = urls

    def _keep(self, server: Server) -> Server:
        self.keepers.append(keeper := Keeper(server))
        keeper.start()
        return server

    def _choose_ports(self) -> None:
        self._port = self._choose_port("port", self.wanted.port, DEFAULT_PORT)
        self._flower_port = self._choose_port("flower_port", self.wanted.flower_port, DEFAULT_FLOWER_PORT)

    def _plan_stack(self) -> None:
        environ = self.wanted.settings(self._port, self._flower_port)
        password = self.wanted.password or self.files.secret("admin_password", hex_bytes=12)
        self.stack = Stack(
            base_dir=self.wanted.base_dir,
            data_dir=self.wanted.data_dir,
            environ=child_environ(self.wanted.environ, environ),
            database_url=self._urls["database_url"],
            port=self._port,
            flower_port=self._flower_port,
            username=self.wanted.username,
            password=password,
            host=self.wanted.host,
            drain_s=self.wanted.drain_s,
            workers=self.wanted.workers,
            concurrency=self.wanted.concurrency,
        )

    def _choose_port(self, name: str, wanted: int | None, default: int) -> int:
        """The port that was asked for, or the one of last time, or any; held until we end."""
        held = reserve_port(wanted or self.files.services().get(name, default))
        port = int(held.getsockname()[1])
        self._held.append(held)
        if wanted and port != wanted:
            setting = f"AGENTSYS_{name.upper()}"
            raise SetupFailed(f"port {wanted} is taken by another process: stop it, or set {setting}")
        self.files.keep(**{name: port})
        return port

    def _run_prepare(self) -> None:
        prepare = self.stack.prepare()
        prepare.start()
        if not prepare.wait(READY_S) or prepare.exit_code != 0:
            prepare.stop()
            raise SetupFailed(f"the database cannot be set up: {reason(prepare.last_words())} ({prepare.log})")

    def _start_services(self) -> None:
        """All at once: each spends its first seconds importing."""
        self._held.pop().close()  # Flower cannot share a port that is held; the web process can
        services = list(self.stack.services())
        for service in services:
            self.keepers.append(keeper := Keeper(service))
            keeper.start()
            self._watch_groups()
        for service in services:
            _await(service)
        if self.stack.serves_all_lanes and not _within(READY_S, self.stack.ready):
            raise SetupFailed(f"the stack does not get ready: {self.stack.what_is_missing()}")

    def _tell(self) -> None:
        """Write endpoints.json: all that others need to use the stack."""
        self.files.tell(
            {
                "api": f"{self.stack.address}/api/v1",
                "admin": f"{self.stack.address}/admin/",
                "flower": f"{self.stack.flower_address}/",
                "metrics": f"{self.stack.address}/metrics",
                "username": self.stack.username,
                "password": self.stack.password,
                "processes": {keeper.child.name: keeper.child.pid for keeper in self.keepers},
            }
        )

    def welcome(self) -> str:
        """Where to look, for people.  A generated password is shown once; it stays in the file."""
        stack, shown = self.stack, self.files.services().get("password_shown")
        generated = not self.wanted.password
        secret = stack.password if generated and not shown else f"(see {self.files.endpoints_file})"
        self.files.keep(password_shown=True)
        return (
            f"agentsys is up: {len(self.keepers)} processes, logs in {self.wanted.data_dir / 'logs'}\n"
            f"  REST    {stack.address}/api/v1   (documentation: {stack.address}/api/v1/docs)\n"
            f"  Admin   {stack.address}/admin/\n"
            f"  Flower  {stack.flower_address}/\n"
            f"  Login   {stack.username} / {secret}"
        )

    # --- Stop ------------------------------------------------------------------------
    def stop(self) -> None:
        """Stop all, newest work first: no new requests, workers drain, then Redis, then PostgreSQL.

        Takes at most DRAIN_S + 30 s; a second signal cuts the draining short.
        """
        self._stopping.set()
        if self._lock is not None:  # else the file is another stack's
            self.files.untell()
        children = [keeper.child for keeper in self.keepers]
        self._stop_services([child for child in children if isinstance(child, Service)])
        for server in reversed([child for child in children if isinstance(child, Server)]):
            server.stop()
        self._guard.close()
        self._family.end()
        self._let_go()

    def _stop_services(self, services: list[Service]) -> None:
        for service in services:
            service.send(signal.SIGTERM)
        asked_at = time.monotonic()
        for service in services:
            left_s = asked_at + service.patience_s - time.monotonic()
            wait_until(lambda it=service: self._hurry.is_set() or not it.alive(), timeout_s=left_s)  # type: ignore[misc]
            service.stop(signal.SIGKILL, timeout_s=KILL_S)

    def _let_go(self) -> None:
        for held in self._held:
            held.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for signum, handler in self._old_handlers.items():
            signal.signal(signum, handler)

    # --- Signals, groups, logs -------------------------------------------------------
    def _listen_to_signals(self) -> None:
        for signum in SIGNALS:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # nohup asked for it
            self._old_handlers[signum] = signal.signal(signum, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        if self._stopping.is_set():
            self._hurry.set()
            return
        self._stopping.set()
        if self._interruptible:
            raise StopRequested

    def _pids(self) -> set[int]:
        pids = (self._guard.pid, *(keeper.child.pid for keeper in self.keepers))
        return {pid for pid in pids if pid}

    def _watch_groups(self) -> None:
        children = [keeper.child for keeper in self.keepers if keeper.child.name != Postgres.name]
        self._guard.watch({child.pid for child in children if child.pid and child.exit_code is None})

    def _cut_logs(self) -> None:
        if time.monotonic() > self._cut_logs_at:
            self._cut_logs_at = time.monotonic() + CUT_LOGS_EVERY_S
            cut_logs(self.wanted.data_dir / "logs")


def _within(timeout_s: float, ready: Callable[[], bool]) -> bool:
    """Asks ten times a second: each question costs the machine that is starting some work."""
    return wait_until(ready, timeout_s=timeout_s, every_s=ASK_EVERY_S)


def _await(service: Service) -> None:
    if _within(READY_S, lambda: not service.alive() or service.ready()) and service.alive():
        return
    raise SetupFailed(f"{service.name} does not start: {reason(service.last_words())} (log: {service.log})")
