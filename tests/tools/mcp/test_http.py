"""Servers on HTTP: the guard is before them, answers are bounded, and a failure is one call's."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentsys.accounts.models import User, Workspace
from agentsys.core.errors import AddressDenied, AgentSysError, ToolUnavailable
from agentsys.infrastructure.processes import wait_until
from agentsys.tools import runner
from agentsys.tools.mcp import catalogue, services
from agentsys.tools.models import McpServer, McpTool
from agentsys.tools.testing import context
from tests.support.web import Seen, Web, answer, redirect

pytestmark = pytest.mark.django_db(transaction=True)
TOOL = {"name": "double", "description": "Double.", "inputSchema": {"type": "object"}}
MODERN = "2026-07-28"


class Server:
    """A scripted server: ``results`` by method, each a result, or a script of the web's."""

    def __init__(self, web: Web, *, modern: bool) -> None:
        self.methods: list[str] = []
        self.sent: list[dict[str, str]] = []
        about = {"serverInfo": {"name": "it", "version": "1"}, "capabilities": {"tools": {}}}
        cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if modern else {}
        self.results: dict[str, Any] = {
            "tools/list": {"tools": [TOOL], **cached},
            "tools/call": {
                "content": [{"type": "text", "text": "4"}],
                **({"resultType": "complete"} if modern else {}),
            },
        }
        if modern:
            self.results["server/discover"] = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **cached}
        else:
            self.results["initialize"] = {"protocolVersion": "2025-11-25", **about}
        web.pages["/mcp"] = self.answer

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(seen.body) if seen.body else {}
        method = asked.get("method", seen.method)
        self.methods.append(method)
        self.sent.append(seen.headers)
        result = self.results.get(method)
        if callable(result):
            await result(seen, writer)
        elif "id" not in asked:
            await answer(b"", status=202 if seen.method == "POST" else 405)(seen, writer)
        else:
            error = {"code": -32601, "message": "Method not found"}
            said = {"jsonrpc": "2.0", "id": asked["id"], **({"result": result} if result else {"error": error})}
            await answer(json.dumps(said).encode(), content_type="application/json")(seen, writer)


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        yield web


@pytest.fixture(params=[False, True], ids=["handshake", "stateless"])
def server(request: Any, web: Web) -> Server:
    return Server(web, modern=request.param)


@pytest.fixture
def refreshed(workspace: Workspace, boss: User, web: Web) -> Callable[..., McpServer]:
    def make(**given: Any) -> McpServer:
        values = {"name": "srv", "transport": "http", "url": web.url("/mcp"), **given}
        return services.refresh(services.define(workspace.pk, values, user=boss, may_trust=True))

    return make


@pytest.fixture
def call(workspace: Workspace) -> Callable[[], Any]:
    return lambda: runner.run(catalogue.get("srv.double", workspace.pk), {}, context())


def test_both_eras_of_the_protocol_are_spoken(server: Server, refreshed: Any, call: Any) -> None:
    found = refreshed(headers={"X-Team": "blue"})
    assert found.protocol_version == (MODERN if "server/discover" in server.results else "2025-11-25")
    assert call() == "4"
    assert {headers["x-team"] for headers in server.sent} == {"blue"}
    assert ("initialize" in server.methods) is ("initialize" in server.results)


def test_a_change_is_seen_before_the_call(server: Server, refreshed: Any, call: Any) -> None:
    refreshed()
    server.results["tools/list"] = {**server.results["tools/list"], "tools": [{**TOOL, "title": "Other"}]}
    with pytest.raises(AgentSysError) as changed:
        call()
    assert changed.value.code == "tool_changed"
    assert "tools/call" not in server.methods
    assert McpTool.objects.get().state == "changed"


def test_an_address_inside_is_refused_and_so_is_a_redirect_to_one(server: Server, refreshed: Any, web: Web) -> None:
    with Web() as inside:
        target = Server(inside, modern=False)
        for status in (307, 308, 302, 303):
            web.pages["/mcp"] = redirect(inside.url("/mcp"), status=status)
            with pytest.raises(AgentSysError):
                refreshed(name=f"r{status}")
        with pytest.raises(AddressDenied):
            refreshed(name="direct", url=inside.url("/mcp"))
        assert target.methods == []
    assert not McpTool.objects.exists()


def big(kind: str) -> Any:
    async def write(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(2_000):
            writer.write(b"x" * 50_000)
            await writer.drain()

    return write


async def breaks_off(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    await writer.drain()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (big("application/json"), "tool_output_too_large"),
        (big("text/event-stream"), "outcome_unknown"),
        (breaks_off, "outcome_unknown"),
        (answer(b"oh", status=500), "outcome_unknown"),
        (answer(b"oh", status=401), "tool_failed"),
        (answer(b"oh", status=429, headers={"Retry-After": "7"}), "tool_rate_limited"),
        (answer(b"oh", status=503, headers={"Retry-After": "7"}), "tool_unavailable"),
        (answer(b"<html>", content_type="text/html"), "tool_failed"),
        (answer(b"{", content_type="application/json"), "tool_failed"),
    ],
)
def test_what_goes_wrong_with_a_call_is_told_and_the_next_one_works(
    server: Server, refreshed: Any, call: Any, script: Any, code: str
) -> None:
    refreshed()
    good = server.results["tools/call"]
    server.results["tools/call"] = script
    with pytest.raises(AgentSysError) as told:
        call()
    assert told.value.code == code
    assert server.methods.count("tools/call") == 1
    server.results["tools/call"] = good
    assert call() == "4"


def test_a_server_that_is_not_there_has_not_been_called(refreshed: Any, call: Any, server: Server, web: Web) -> None:
    found = refreshed()
    McpServer.objects.filter(pk=found.pk).update(url="http://127.0.0.1:1/mcp")
    with pytest.raises(AgentSysError) as refused:
        call()
    assert refused.value.code == "address_denied"
    web.pages["/mcp"] = answer(b"", status=503, headers={"Retry-After": "3"})
    McpServer.objects.filter(pk=found.pk).update(url=web.url("/mcp?again"))
    with pytest.raises(ToolUnavailable) as away:
        call()
    assert (away.value.data["sent"], away.value.data["retry_after_s"]) == (False, 3.0)


# --- A worker that dies -------------------------------------------------------------------------
HOLDER = """
import sys, time, asyncio
from pathlib import Path
import django; django.setup()
from agentsys.core import loop
from agentsys.tools.mcp import door
from agentsys.tools.mcp.endpoint import Endpoint
from agentsys.tools.mcp.door import Pin
from agentsys.tools.mcp import listing
endpoint = Endpoint("s", "s", command=(sys.executable, sys.argv[1], sys.argv[3]), folder=Path(sys.argv[2]))
(tool,) = listing.judged("s", door.tools_of(endpoint).tools)[0]
call = door.call(endpoint, Pin(tool.name, tool.digest, True, None), {"n": 2}, left_s=60)
waiting = loop.submit(call)
if sys.argv[3] == "none":
    waiting.result()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("fault", ["none", "hang-call"])
def test_servers_end_with_their_worker_however_it_ends(tmp_path: Path, fault: str) -> None:
    script = Path(__file__).parents[2] / "support" / "mcp_server.py"
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "agentsys.settings"}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(script), str(tmp_path), fault],
        env=environ,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    assert wait_until(lambda: len(psutil.Process(holder.pid).children(recursive=True)) >= 2, timeout_s=20)
    servers = psutil.Process(holder.pid).children(recursive=True)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert psutil.wait_procs(servers, timeout=5)[1] == []
