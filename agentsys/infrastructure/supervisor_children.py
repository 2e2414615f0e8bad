"""The web process, Flower and the workers: how each is started, and when it is ready."""

import http.client
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from agentsys.infrastructure.embedded_base import on_gone, write_private
from agentsys.infrastructure.processes import Process, SetupFailed

STOP_S = 5.0  # for what has nothing to drain
LANES = ("model", "network", "compute", "system")
#: In Flower's configuration, which is Python.  Text, as what it names is above us.
FLOWER_LOGIN = "from agentsys.observability.flower_login import protect_metrics\nprotect_metrics()\n"
WEB_APP = "agentsys.asgi:application"
REGISTERED = Path(__file__).with_name("sql").joinpath("supervisor.sql").read_bytes()


class Service(Process):
    """A process with a question that tells whether it can do its work.

    Args:
        patience_s: how long it may go on after it was asked to stop.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
        ready: "Callable[[Service], bool]",
        patience_s: float,
    ) -> None:
        super().__init__(name, command, log=log, env=env, cwd=cwd)
        self._ready, self.patience_s = ready, patience_s

    def ready(self) -> bool:
        return self._ready(self)


@dataclass(frozen=True)
class Stack:
    """What one stack consists of, and where.

    Args:
        base_dir: the clone.
        data_dir: data, logs and secrets.
        environ: what every child inherits.
        host: where the web process listens; all else is for this machine only.
        drain_s: how long workers may take to finish or release their steps.
        workers: worker processes a lane; 1 where nothing is said, 0 for none.
        concurrency: slots of one worker a lane; the lane's own default where nothing is said.
    """

    base_dir: Path
    data_dir: Path
    environ: Mapping[str, str]
    database_url: str
    port: int
    flower_port: int
    username: str
    password: str
    host: str = "127.0.0.1"
    drain_s: float = 30.0
    workers: Mapping[str, int] = field(default_factory=dict)
    concurrency: Mapping[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def flower_address(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def serves_all_lanes(self) -> bool:
        """Whether it can be ready by itself: lanes without a worker here may have theirs elsewhere."""
        return all(self.workers.get(lane, 1) for lane in LANES)

    def ready(self) -> bool:
        return ask(self.port, "/readyz")[0] == 200

    def what_is_missing(self) -> str:
        status, body = ask(self.port, "/readyz")
        told = " ".join(body.split())[:500] if body.startswith("{") else f"/readyz answers {status or 'nothing'}"
        return f"{told} (logs: {self.data_dir / 'logs'})"

    def services(self) -> Iterator[Service]:
        yield self.web()
        for lane in LANES:
            for number in range(1, self.workers.get(lane, 1) + 1):
                yield self.worker(lane, number)
        yield self.flower()

    # --- Each of them ----------------------------------------------------------------
    def web(self) -> Service:
        static = ["--static-path-route", "/static", "--static-path-mount", str(self.data_dir / "static")]
        command = [
            *("granian", "--interface", "asginl", "--host", self.host, "--port", str(self.port)),
            *("--workers", "1", "--workers-kill-timeout", "5", *static, WEB_APP),
        ]
        ready = self._answers(self.port, "/healthz")
        return self._service("web", command, ready, patience_s=STOP_S)

    def flower(self) -> Service:
        """Its configuration is a file, as a password has no place on a command line."""
        config = self.data_dir / "flowerconfig.py"
        options = {
            "address": "127.0.0.1",
            "port": self.flower_port,
            "basic_auth": [f"{self.username}:{self.password}"],
            "read_only": True,  # what runs is decided in agentsys, not beside it
            "max_tasks": 20_000,
        }
        lines = [FLOWER_LOGIN, *(f"{name} = {value!r}\n" for name, value in options.items())]
        write_private(config, "".join(lines))
        command = ["celery", "-A", "workers.celery", "flower", f"--conf={config}"]
        # It has nothing to lose, and its own end waits for questions that no worker answers any more.
        ready = self._answers(self.flower_port, "/healthcheck")
        return self._service("flower", command, ready, patience_s=0.2)

    def worker(self, lane: str, number: int) -> Service:
        name = f"{lane}-{number}" if number > 1 else lane
        command = ["workers", lane, "--name", name]
        if slots := self.concurrency.get(lane):
            command += ["--concurrency", str(slots)]
        patience_s = self.drain_s + STOP_S
        return self._service(f"worker-{name}", command, self._registered, patience_s=patience_s)

    def _service(self, name: str, module: list[str], ready: Callable[[Service], bool], *, patience_s: float) -> Service:
        return Service(
            name,
            [sys.executable, "-m", *module],
            log=self.data_dir / "logs" / f"{name}.log",
            env=self.environ,
            cwd=self.base_dir,
            ready=ready,
            patience_s=patience_s,
        )

    def _answers(self, port: int, path: str) -> Callable[[Service], bool]:
        return lambda _: ask(port, path)[0] == 200

    def _registered(self, worker: Service) -> bool:
        """Whether the worker, or a child of it, has told PostgreSQL that it claims."""
        return bool(_family(worker.pid) & registered_pids(self.database_url))

    def prepare(self) -> Process:
        """Migrations, the first user, static files: what a version needs before its processes."""
        return Process(
            "prepare",
            [sys.executable, "manage.py", "prepare"],
            log=self.data_dir / "logs" / "prepare.log",
            env={**self.environ, "DEFAULT_ADMIN_PASSWORD": self.password},
            cwd=self.base_dir,
        )


def child_environ(environ: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """What children inherit: our environment, with bytecode kept and output unbuffered."""
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on 127.0.0.1, past any proxy; (0, "") if nobody answers in 2 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def registered_pids(database_url: str) -> set[int]:
    """Pids of the workers that have told PostgreSQL lately that they work; none if it is away."""
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            return {int(row[0]) for row in connection.execute(REGISTERED)}
    except psycopg.Error:
        return set()


def _family(pid: int | None) -> set[int]:
    if pid is None:
        return set()
    children = on_gone(lambda: psutil.Process(pid).children()) or []
    return {pid, *(child.pid for child in children)}


def lane_numbers(pairs: Iterable[str], *, least: int, most: int = 100) -> dict[str, int]:
    """``["network=2"]`` → ``{"network": 2}``.  Raises SetupFailed for what is not LANE=NUMBER."""
    found: dict[str, int] = {}
    for pair in pairs:
        lane, _, number = pair.partition("=")
        if lane not in LANES or not number.isdecimal() or not least <= int(number) <= most:
            raise SetupFailed(f"{pair!r} is not LANE=NUMBER with a lane of {', '.join(LANES)}")
        found[lane] = int(number)
    return found
