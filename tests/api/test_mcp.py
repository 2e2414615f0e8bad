"""MCP servers by REST: who may define, refresh, trust and approve; another workspace sees nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentsys.accounts.models import Role
from agentsys.core import loop
from agentsys.tools.mcp import pool
from agentsys.tools.models import McpServer, McpTool

SERVERS = "/api/v1/mcp-servers"
SCRIPT = str(Path(__file__).parents[1] / "support" / "mcp_server.py")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOL = {"name": "double", "description": "Double a number.", "inputSchema": SCHEMA}
STDIO = {"name": "srv", "transport": "stdio", "command": "test"}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("agent")]


@pytest.fixture(autouse=True)
def _commands(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.MCP_COMMANDS = {"test": (sys.executable, SCRIPT, "*"), "fixed": (sys.executable, SCRIPT)}
    settings.DATA_DIR = tmp_path
    yield
    loop.run(pool.close(), timeout_s=15)


@pytest.fixture
def admin(member: Any) -> Any:
    return member(Role.ADMIN)


def post(client: Any, path: str = "", **body: Any) -> Any:
    return client.post(SERVERS + path, body, format="json")


def made(client: Any, **body: Any) -> str:
    answer = post(client, **{**STDIO, **body})
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def test_a_server_is_defined_refreshed_and_its_tools_are_in_the_catalogue(author: Any, viewer: Any) -> None:
    key = made(author)
    assert viewer.get("/api/v1/tools/srv.double").status_code == 404
    refreshed = post(author, f"/{key}/refresh")
    assert refreshed.status_code == 200, refreshed.content
    assert (refreshed.json()["protocol_version"], refreshed.json()["error"]) == ("2025-11-25", "")
    shown = viewer.get("/api/v1/tools/srv.double").json()
    assert (shown["effect"], shown["lane"], shown["description"]) == ("unsafe", "network", "Double a number.")
    assert "srv.double" in [one["name"] for one in viewer.get("/api/v1/tools").json()["results"]]
    tools = viewer.get(f"{SERVERS}/{key}/tools").json()["results"]
    assert [(one["name"], one["remote_name"], one["state"]) for one in tools] == [("srv.double", "double", "active")]
    assert [one["name"] for one in viewer.get(SERVERS).json()["results"]] == ["srv"]


def test_a_change_is_shown_as_old_new_and_their_difference_and_approved_once(author: Any, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([TOOL]))
    key = made(author, args=["none", str(file)])
    post(author, f"/{key}/refresh")
    file.write_text(json.dumps([{**TOOL, "description": "Halve a number."}]))
    post(author, f"/{key}/refresh")
    [tool] = author.get(f"{SERVERS}/{key}/tools").json()["results"]
    assert (tool["state"], tool["definition"], tool["proposed"]["description"]) == ("changed", TOOL, "Halve a number.")
    assert '-  "description": "Double a number.' in tool["difference"]
    assert author.get("/api/v1/tools/srv.double").status_code == 404
    approve = f"/{key}/tools/double/approve"
    assert post(author, approve, digest=tool["digest"]).json()["code"] == "approval_changed"
    assert post(author, approve).status_code == 422
    done = post(author, approve, digest=tool["proposed_digest"])
    assert (done.status_code, done.json()["state"], done.json()["proposed"]) == (200, "active", None)
    assert post(author, approve, digest=tool["proposed_digest"]).json()["code"] == "invalid_transition"
    assert author.get("/api/v1/tools/srv.double").json()["description"] == "Halve a number."


def test_only_authors_write_and_only_admins_trust(viewer: Any, operator: Any, author: Any, admin: Any) -> None:
    key = made(author)
    for client in (viewer, operator):
        assert post(client, **{**STDIO, "name": "other"}).status_code == 403
        assert client.patch(f"{SERVERS}/{key}", {"enabled": False}, format="json").status_code == 403
        assert client.delete(f"{SERVERS}/{key}").status_code == 403
        assert post(client, f"/{key}/refresh").status_code == 403
        assert post(client, f"/{key}/tools/double/approve", digest="x").status_code == 403
        assert client.get(f"{SERVERS}/{key}").status_code == 200
    assert author.patch(f"{SERVERS}/{key}", {"trusted": True}, format="json").json()["code"] == "forbidden"
    assert post(author, **{**STDIO, "name": "other", "trusted": True}).status_code == 403
    server = McpServer.objects.get()
    assert (server.enabled, server.trusted) == (True, False)
    assert admin.patch(f"{SERVERS}/{key}", {"trusted": True}, format="json").json()["trusted"] is True
    changed = author.patch(f"{SERVERS}/{key}", {"args": ["names"]}, format="json").json()
    assert (changed["trusted"], changed["args"]) == (False, ["names"])


def test_another_workspace_sees_and_changes_nothing(author: Any, stranger: Any) -> None:
    key = made(author)
    post(author, f"/{key}/refresh")
    for answer in (
        stranger.get(f"{SERVERS}/{key}"),
        stranger.get(f"{SERVERS}/{key}/tools"),
        stranger.get(f"{SERVERS}/{key}/tools/double"),
        stranger.patch(f"{SERVERS}/{key}", {"enabled": False}, format="json"),
        stranger.delete(f"{SERVERS}/{key}"),
        post(stranger, f"/{key}/refresh"),
        post(stranger, f"/{key}/tools/double/approve", digest="x"),
        stranger.get("/api/v1/tools/srv.double"),
    ):
        assert answer.status_code == 404, answer.content
    assert stranger.get(SERVERS).json()["results"] == []
    assert "srv.double" not in [one["name"] for one in stranger.get("/api/v1/tools").json()["results"]]
    definition = {"slug": "mine", "name": "Mine", "tools": ["srv.double"]}
    assert stranger.post("/api/v1/agents", definition, format="json").json()["errors"][0]["code"] == "unknown_tool"
    assert McpServer.objects.get().enabled
    assert made(stranger) != key  # the name is a workspace's own


def test_an_agent_may_name_a_servers_tools(author: Any) -> None:
    post(author, f"/{made(author)}/refresh")
    definition = {"slug": "mine", "name": "Mine", "tools": ["srv.double"], "approvals": {"tools": ["srv.double"]}}
    assert author.post("/api/v1/agents", definition, format="json").status_code == 201


HTTP = {"name": "far", "transport": "http", "url": "https://example.com/mcp"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**STDIO, "name": ""}, "name"),
        ({**STDIO, "name": "a b"}, "name"),
        ({**STDIO, "name": "x" * 41}, "name"),
        ({**STDIO, "name": 5}, "name"),
        ({**STDIO, "name": "text"}, "name"),
        ({**STDIO, "transport": "sse"}, "transport"),
        ({**STDIO, "transport": None}, "transport"),
        ({**STDIO, "command": "/bin/sh"}, "command"),
        ({**STDIO, "command": ["test"]}, "command"),
        ({**STDIO, "command": ""}, "command"),
        ({**STDIO, "args": "none"}, "args"),
        ({**STDIO, "args": ["x"] * 51}, "args"),
        ({**STDIO, "args": ["x" * 20_000]}, "args"),
        ({**STDIO, "command": "fixed", "args": ["x"]}, "args"),
        ({**STDIO, "url": "https://example.com"}, "url"),
        ({**STDIO, "timeout_s": 0}, "timeout_s"),
        ({**STDIO, "timeout_s": True}, "timeout_s"),
        ({**STDIO, "timeout_s": 1e9}, "timeout_s"),
        ({**STDIO, "enabled": "yes"}, "enabled"),
        ({**HTTP, "command": "test"}, "command"),
        ({**HTTP, "command": []}, "command"),
        ({**HTTP, "args": {}}, "command"),
        ({**STDIO, "url": None}, "url"),
        ({**HTTP, "url": ""}, "url"),
        ({**HTTP, "url": "ftp://example.com"}, "url"),
        ({**HTTP, "url": "https://user:pass@example.com"}, "url"),
        ({**HTTP, "url": "https://example.com/" + "x" * 3_000}, "url"),
        ({**HTTP, "headers": {"A": 1}}, "headers"),
        ({**HTTP, "headers": {"A": "x\ny"}}, "headers"),
        ({**HTTP, "headers": {"Host": "inside"}}, "headers"),
        ({**HTTP, "headers": {"Authorization": "Bearer x"}}, "headers.Authorization"),
        ({**HTTP, "headers": {"X-Api-Key": "x"}}, "headers.X-Api-Key"),
        ({**HTTP, "headers": {"Authorization": "Bearer ${credential.}"}}, "headers.Authorization"),
        ({**HTTP, "headers": {f"A{n}": "x" for n in range(30)}}, "headers"),
        ({**STDIO, "extra": 1}, "extra"),
    ],
)
def test_what_is_no_server_is_refused_and_nothing_is_stored(author: Any, body: Any, path: str) -> None:
    answer = post(author, **body)
    assert answer.status_code == 422, answer.content
    assert path in [one["path"] for one in answer.json()["errors"]]
    assert not McpServer.objects.exists()


def test_a_name_is_taken_once_in_a_workspace(author: Any) -> None:
    made(author)
    assert post(author, **STDIO).json()["errors"][0]["code"] == "taken"
    other = made(author, name="other")
    assert author.patch(f"{SERVERS}/{other}", {"name": "srv"}, format="json").status_code == 422
    assert sorted(McpServer.objects.values_list("name", flat=True)) == ["other", "srv"]


def test_a_private_address_is_refused_when_it_is_asked(author: Any) -> None:
    key = made(author, name="in", transport="http", command="", url="http://127.0.0.1:1/mcp")
    answer = post(author, f"/{key}/refresh")
    assert (answer.status_code, answer.json()["code"]) == (403, "address_denied")
    assert "127.0.0.1" in author.get(f"{SERVERS}/{key}").json()["error"]
    assert not McpTool.objects.exists()


def test_what_a_server_does_wrong_is_told_and_its_tools_stay(author: Any, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    key = made(author, args=["none", str(file)])
    post(author, f"/{key}/refresh")
    file.write_text(json.dumps([{"name": 5}]))
    answer = post(author, f"/{key}/refresh")
    assert (answer.status_code, answer.json()["code"]) == (502, "tool_failed")
    assert author.get(f"{SERVERS}/{key}").json()["error"]
    assert author.get("/api/v1/tools/srv.double").status_code == 200


def test_a_deleted_server_takes_its_tools_along(author: Any) -> None:
    key = made(author)
    post(author, f"/{key}/refresh")
    assert author.delete(f"{SERVERS}/{key}").status_code == 204
    assert author.get("/api/v1/tools/srv.double").status_code == 404
    assert author.delete(f"{SERVERS}/{key}").status_code == 404
