"""Servers that others have written, from the registries, over stdio and HTTP: what they list can be used, and is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentsys.accounts.models import User, Workspace
from agentsys.infrastructure.processes import free_port, wait_until
from agentsys.runs.models import Run
from agentsys.tools import runner
from agentsys.tools.mcp import catalogue, services
from agentsys.tools.models import McpServer
from agentsys.tools.testing import context
from tests.mcp_servers import install
from tests.support.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)
BIN = install.TARGET / "python" / "bin"
NODE = str(install.TARGET / "node")
SCRIPTS = install.TARGET / "node_modules" / ".bin"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    install.main()


@pytest.fixture
def refreshed(workspace: Workspace, boss: User, settings: Any, tmp_path: Path) -> Callable[..., McpServer]:
    """A server of this command, or at this address."""
    settings.DATA_DIR = tmp_path / "data"

    def make(*command: object, url: str = "", trusted: bool = True) -> McpServer:
        settings.MCP_COMMANDS = {"it": tuple(str(part) for part in command)}
        where = {"transport": "http", "url": url} if url else {"transport": "stdio", "command": "it"}
        made = services.define(workspace.pk, {"name": "srv", "trusted": trusted, **where}, user=boss, may_trust=True)
        return services.refresh(made)

    return make


@pytest.fixture
def call(workspace: Workspace) -> Callable[..., Any]:
    """Call a tool as a step does."""
    return lambda tool, **arguments: runner.run(catalogue.get(f"srv.{tool}", workspace.pk), arguments, context())


def test_time(refreshed: Any, call: Any) -> None:
    server = refreshed(BIN / "mcp-server-time")
    assert (server.protocol_version, server.refused) == ("2026-07-28", [])
    assert call("get_current_time", timezone="UTC")["timezone"] == "UTC"


def test_git(refreshed: Any, call: Any, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "repository"], check=True)
    assert refreshed(BIN / "mcp-server-git").refused == []
    assert "No commits yet" in call("git_status", repo_path=str(tmp_path / "repository"))


def test_sqlite(refreshed: Any, call: Any, tmp_path: Path) -> None:
    program = install.TARGET / "sqlite" / "bin" / "mcp-server-sqlite"
    assert refreshed(program, "--db-path", tmp_path / "it.db").refused == []
    call("create_table", query="CREATE TABLE t (n INTEGER)")
    call("write_query", query="INSERT INTO t VALUES (41), (42)")
    assert "42" in call("read_query", query="SELECT max(n) AS n FROM t")


def test_filesystem(refreshed: Any, call: Any, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    assert refreshed(NODE, SCRIPTS / "mcp-server-filesystem", tmp_path / "shared").refused == []
    call("write_file", path=str(tmp_path / "shared" / "a.txt"), content="grüße")
    assert call("read_text_file", path=str(tmp_path / "shared" / "a.txt")) == {"content": "grüße"}
    assert (tmp_path / "shared" / "a.txt").read_text() == "grüße"


def test_memory(refreshed: Any, call: Any) -> None:
    assert refreshed(NODE, SCRIPTS / "mcp-server-memory").refused == []
    entity = {"name": "Ada", "entityType": "person", "observations": ["counts"]}
    call("create_entities", entities=[entity])
    assert call("search_nodes", query="Ada")["entities"] == [entity]


def test_everything_over_stdio(refreshed: Any, call: Any) -> None:
    assert refreshed(NODE, SCRIPTS / "mcp-server-everything", "stdio").refused == []
    assert_everything(call)


@pytest.fixture
def everything_by_http(settings: Any, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(
        [NODE, str(SCRIPTS / "mcp-server-everything"), "streamableHttp"],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    settings.HTTP_ALLOW = (f"127.0.0.1:{port}",)
    assert wait_until(lambda: _answers(port), timeout_s=30)
    yield f"http://127.0.0.1:{port}/mcp"
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/mcp", timeout=2)
    except httpx.TransportError:
        return False
    return True


def test_everything_over_http(refreshed: Any, call: Any, everything_by_http: str) -> None:
    assert refreshed(url=everything_by_http).refused == []
    assert_everything(call)


def test_a_run_calls_everything_over_http(refreshed: Any, everything_by_http: str, submit: Any, worker: Worker) -> None:
    refreshed(url=everything_by_http, trusted=False)
    steps = [{"key": f"s{n}", "tool": "srv.get-sum", "arguments": {"a": n, "b": 1}} for n in range(5)]
    run: Run = worker.finish(submit(steps))
    assert run.result == {f"s{n}": f"The sum of {n} and 1 is {n + 1}." for n in range(5)}


@pytest.mark.parametrize("scenario", ["initialize", "tools_call", "sse-retry", "elicitation-sep1034-client-defaults"])
def test_the_official_suites_scenarios_without_sign_in_pass(scenario: str, tmp_path: Path) -> None:
    suite = install.TARGET / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    client = f"{sys.executable} {Path(install.__file__).with_name('conformance_client.py')}"
    ran = subprocess.run(
        [NODE, str(suite), "client", "--command", client, "--scenario", scenario, "-o", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(install.ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout[-3_000:] + ran.stderr[-1_000:]
    assert "OVERALL: PASSED" in ran.stdout + ran.stderr


def assert_everything(call: Any) -> None:
    assert call("echo", message="grüße") == "Echo: grüße"
    assert call("get-sum", a=1, b=2) == "The sum of 1 and 2 is 3."
    assert set(call("get-structured-content", location="Chicago")) == {"temperature", "conditions", "humidity"}
    image = call("get-tiny-image")
    assert [part["mimeType"] for part in image["content"] if part["type"] == "image"] == ["image/png"]
    assert "completed" in call("trigger-long-running-operation", duration=0.3, steps=3)
