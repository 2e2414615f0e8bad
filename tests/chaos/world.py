"""The world of a scenario: a stack as a user starts it, a user who goes on submitting, and a witness file."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from agentsys.infrastructure.embedded import scratch
from tests.support.stack import ROOT, Up, environment

LEASE_S = 6.0
SETTINGS = {
    "AGENTSYS_TOOL_MODULES": "tests.chaos.tools",
    "AGENTSYS_LEASE_S": f"{LEASE_S:g}",
    "AGENTSYS_HEARTBEAT_S": "2",
    "AGENTSYS_DRAIN_S": "5",
}
PATIENCE_S = 120.0
#: Workspaces with their agents, by the services that ``manage.py seed`` uses: REST makes none.
TENANTS = """
from agentsys.accounts import services as accounts
from agentsys.agents import services as agents
for slug in {slugs!r}:
    agents.ensure_default(workspace_id=accounts.ensure_workspace(slug=slug, name=slug).pk)"""


def size(short: int, long: int, full: int) -> int:
    """By ``CHAOS=short|long|full``; the tests' own form is the short one."""
    return {"short": short, "long": long, "full": full}[form()]


def form() -> str:
    return os.environ.get("CHAOS", "short")


class World:
    """``acknowledged`` are the runs that a 2xx has promised, in order; ``workspace`` a slug, or empty."""

    def __init__(self, folder: Path, up: Up, database_url: str = "", workspace: str = "") -> None:
        self.folder, self.up, self._database_url, self.workspace = folder, up, database_url, workspace
        self.witness = folder / "witness.log"
        self.acknowledged: list[str] = []
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._keys = 0

    def close(self) -> None:
        self._http.close()

    # --- The user ---------------------------------------------------------------------
    def login(self) -> None:
        at = self.up.endpoints
        who = {"username": at["username"], "password": at["password"]}
        where = {"workspace": self.workspace} if self.workspace else {}
        answer = self._http.post(f"{at['api']}/auth/token", json=who | where)
        self._http.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access']}"

    def beside(self, *slugs: str) -> "list[World]":
        """The same stack seen by users of other workspaces, which are made; all that is promised is in one list."""
        made = self.manage("shell", "-c", TENANTS.format(slugs=slugs))
        assert made.returncode == 0, made.stderr
        others = [World(self.folder, self.up, self._database_url, slug) for slug in slugs]
        for other in others:
            other.acknowledged = self.acknowledged
            other.login()
        return others

    @property
    def authorization(self) -> str:
        return self._http.headers["Authorization"]

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Tries again, as users do, until there is an answer that is none of a server in trouble."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._http.request(method, f"{self.up.endpoints['api']}/{path}", **how)
                if answer.status_code == 401:
                    self.login()
                elif answer.status_code < 500 and answer.status_code != 429:
                    return answer
            except (httpx.HTTPError, OSError, ValueError):
                pass  # away, or endpoints.json is being replaced
            assert time.monotonic() < end, f"{method} {path} did not go through within {PATIENCE_S:g} s"
            time.sleep(0.2)

    def submit(self, plans: Sequence[dict[str, Any]]) -> list[str]:
        """One batch under an Idempotency-Key of its own; what is answered with 2xx is promised."""
        self._keys += 1
        runs = [{"agent": "assistant", "plan": plan} for plan in plans]
        headers = {"Idempotency-Key": f"{self.folder.name}-{self._keys}"}
        answer = self.call("POST", "runs/batch", json={"runs": runs}, headers=headers)
        assert answer.status_code == 202, answer.text
        ids = [run["id"] for run in answer.json()["results"]]
        self.acknowledged += ids
        return ids

    # --- What the database says -------------------------------------------------------
    @property
    def services(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.up.folder / "services.json").read_text())
        return found

    @property
    def database_url(self) -> str:
        """The server itself, whatever the stack goes through to reach it."""
        return self._database_url or str(self.services["database_url"])

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Read; tries again while PostgreSQL is away."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with psycopg.connect(self.database_url, row_factory=dict_row, connect_timeout=5) as db:
                    return db.execute(sql, values).fetchall()  # type: ignore[arg-type]
            except psycopg.OperationalError:
                assert time.monotonic() < end, "PostgreSQL does not come back"
                time.sleep(0.1)

    def value(self, sql: str, *values: Any) -> Any:
        return next(iter(self.rows(sql, *values)[0].values()))

    def unfinished(self, ids: Sequence[str]) -> int:
        return int(
            self.value("SELECT count(*) FROM runs_run WHERE id = ANY(%s::uuid[]) AND finished_at IS NULL", list(ids))
        )

    # --- The end ----------------------------------------------------------------------
    def settle(self, ids: Sequence[str], *, within_s: float) -> None:
        """Wait until all have ended; where nobody knows, say what the witness has seen of the call."""
        end = time.monotonic() + within_s
        while left := self.unfinished(ids):
            assert time.monotonic() < end, f"{left} runs do not end: {self._stuck(ids)}"
            self._resolve_unknown(ids)
            time.sleep(0.1)

    def _stuck(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT r.id, r.status, r.reason, s.key, s.tool, s.lane, s.status AS step, s.reason AS why, s.lease_owner"
            " FROM runs_run r JOIN runs_step s ON s.run_id = r.id WHERE r.id = ANY(%s::uuid[])"
            " AND r.finished_at IS NULL AND s.status NOT IN ('succeeded', 'blocked') LIMIT 3",
            list(ids),
        )

    def _resolve_unknown(self, ids: Sequence[str]) -> None:
        unknown = self.rows(
            "SELECT run_id::text AS run, key FROM runs_step"
            " WHERE run_id = ANY(%s::uuid[]) AND status = 'waiting' AND reason = 'outcome_unknown'",
            list(ids),
        )
        if not unknown:
            return
        known = self.witnessed()
        for step in unknown:
            happened = f"{step['run']}:{step['key']}" in known
            said = {"outcome": "done", "result": "done"} if happened else {"outcome": "not_done"}
            self.call("POST", f"runs/{step['run']}/steps/{step['key']}/resolve", json=said)

    def witnessed(self) -> set[str]:
        return {key for *_, key in self.calls()}

    def calls(self) -> list[tuple[float, int, str, str]]:
        """All calls that the tools have told of: time, pid, tool, key."""
        lines = [line.split(" ") for line in self.witness.read_text().splitlines()]
        return [(float(at), int(pid), tool, key) for at, pid, tool, key in lines]

    def verify(self) -> "subprocess.CompletedProcess[str]":
        known = self.folder / "acknowledged"
        known.write_text("\n".join(self.acknowledged))
        return self.manage("verify", "--acknowledged", str(known))

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT, env=environment(self.up.folder, DATABASE_URL=self.database_url),
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def logged(self, text: str) -> int:
        """How many lines of the workers' logs say so."""
        logs = (self.up.folder / "logs").glob("worker-*.log")
        return sum(line.count(text) for log in logs for line in log.read_text(errors="replace").splitlines())


@contextmanager
def world(*options: str, database_url: str = "", **environ: str) -> Iterator[World]:
    """A stack of its own with short leases, and nothing left of it afterwards.

    Args:
        database_url: of the server itself, where the stack is told of another address (``DATABASE_URL``).
    """
    with scratch() as folder:
        (folder / "data").mkdir()
        (folder / "witness.log").touch()
        more = {**SETTINGS, "WITNESS": str(folder / "witness.log"), **environ}
        with Up(folder / "data", *options, **more) as up:
            made = World(folder, up.wait_until_ready(), database_url)
            try:
                made.login()
                yield made
            finally:
                keep(folder)
                made.close()
                end_quickly(up)


def keep(folder: Path) -> None:
    """Logs and the witness outlive the scenario where ``CHAOS_KEEP`` names a folder for them."""
    if place := os.environ.get("CHAOS_KEEP"):
        shutil.copytree(folder / "data" / "logs", Path(place) / folder.name / "logs")
        for file in (folder / "witness.log", *(folder / "data").glob("up-*.log")):
            shutil.copy(file, Path(place) / folder.name)


def end_quickly(up: Up) -> None:
    """Two signals: whatever still drains has no more to prove."""
    for _ in range(2):
        if up.process.poll() is None:
            up.process.terminate()
            time.sleep(0.5)
