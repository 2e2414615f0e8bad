"""A server's headers have secrets by name: they reach it, and nobody else."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentsys.accounts import credentials as vault
from agentsys.accounts.credential_terms import Terms
from agentsys.accounts.models import Role, Workspace
from agentsys.core import loop
from agentsys.core.errors import CredentialUnavailable
from agentsys.runs import approvals, credentials
from agentsys.runs.models import Approval
from agentsys.tools.mcp import pool, services
from agentsys.tools.models import McpServer, McpTool
from tests.support.canary import database, found_in
from tests.support.web import Seen, Web, answer

SECRET = "canary-3f9a77c1d2e84b56"
TOOL = {"name": "double", "description": "Double.", "inputSchema": {"type": "object"}}
STEP = {"key": "a", "tool": "srv.double"}


class Echo:
    """An MCP server that repeats its Authorization header in all that it says."""

    def __init__(self, web: Web) -> None:
        self.authorized: list[str] = []
        self.echoes = True
        web.pages["/mcp"] = self.answer

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(seen.body) if seen.body else {}
        said = seen.headers.get("authorization", "")
        self.authorized.append(said)
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "echo", "version": "1"}}
        results = {
            "initialize": {"protocolVersion": "2025-11-25", **about},
            "tools/list": {"tools": [TOOL]},
            "tools/call": {"content": [{"type": "text", "text": f"you sent {said}"}]},
        }
        if "id" not in asked:
            await answer(b"", status=202 if seen.method == "POST" else 405)(seen, writer)
            return
        result = results.get(asked["method"])
        body = {"result": result} if result else {"error": {"code": -32601, "message": f"no {said}"}}
        reply = json.dumps({"jsonrpc": "2.0", "id": asked["id"], **body}).encode()
        await answer(reply, content_type="application/json")(seen, writer)


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        yield web
    loop.run(pool.close(), timeout_s=15)
    loop.stop(timeout_s=15)


@pytest.fixture
def echo(web: Web) -> Echo:
    return Echo(web)


@pytest.fixture
def server(web: Web, workspace: Any, make_user: Any) -> McpServer:
    values = {
        "name": "srv", "transport": "http", "url": web.url("/mcp"),
        "headers": {"Authorization": "Bearer ${credential.pass}", "X-Team": "blue"},
    }  # fmt: skip
    return services.define(workspace.pk, values, user=make_user("boss", Role.ADMIN), may_trust=True)


@pytest.fixture
def entered(workspace: Any, web: Web) -> Any:
    def enter(**terms: Any) -> None:
        given = {"tools": ["srv"], "hosts": [web.address], **terms}
        credentials.create(workspace.pk, "pass", SECRET, Terms(**given), user=None)

    return enter


def test_the_secret_reaches_the_server_and_nothing_else(
    echo: Echo, server: McpServer, entered: Any, submit: Any, worker: Any
) -> None:
    entered()
    services.refresh(server)
    run = submit([STEP], answer="${a}")
    worker.work()
    (asked,) = Approval.objects.filter(run=run) or (None,)
    if asked is not None:
        approvals.approve(asked, user=None)
    worker.finish(run)

    assert run.status == "succeeded", run.error
    assert set(echo.authorized) == {f"Bearer {SECRET}"}
    assert "[redacted]" in str(run.result)
    assert found_in(database(), SECRET) == []
    assert McpServer.objects.get().headers["Authorization"] == "Bearer ${credential.pass}"


def test_without_the_secret_a_step_waits_and_goes_on_when_it_is_there(
    echo: Echo, server: McpServer, entered: Any, submit: Any, worker: Any, workspace: Any
) -> None:
    entered()
    services.refresh(server)
    vault.remove(workspace.pk, "pass", user=None)
    run = submit([STEP])
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "credential")

    entered()

    assert worker.finish(run).status == "succeeded"


@pytest.mark.parametrize(
    "terms", [{"tools": ["other"]}, {"hosts": ["api.example.com"]}, {"hosts": []}], ids=["tool", "host", "no host"]
)
def test_a_secret_that_may_not_go_there_does_not(
    echo: Echo, server: McpServer, entered: Any, terms: dict[str, Any]
) -> None:
    entered(**terms)
    with pytest.raises(CredentialUnavailable):
        services.refresh(server)
    assert echo.authorized == []
    assert McpServer.objects.get().error
    assert not McpTool.objects.exists()


def test_another_workspaces_secret_is_none(echo: Echo, server: McpServer, web: Web) -> None:
    elsewhere = Workspace.objects.create(slug="else", name="Else")
    credentials.create(elsewhere.pk, "pass", SECRET, Terms(tools=["srv"], hosts=[web.address]), user=None)
    with pytest.raises(CredentialUnavailable, match="There is no credential pass"):
        services.refresh(server)
    assert echo.authorized == []
