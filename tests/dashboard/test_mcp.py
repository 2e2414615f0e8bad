"""MCP servers in the admin: defined, refreshed and approved by the services that REST uses."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentsys.accounts.models import Role, Workspace
from agentsys.core import loop
from agentsys.tools.mcp import pool
from agentsys.tools.models import McpServer, McpTool

LIST = "/admin/tools/mcpserver/"
SCRIPT = str(Path(__file__).parents[1] / "support" / "mcp_server.py")
TOOL = {"name": "double", "description": "<script>alert(1)</script>", "inputSchema": {"type": "object"}}
FORM = {"name": "srv", "transport": "stdio", "command": "test", "args": "[]", "headers": "{}",
        "timeout_s": "60", "enabled": "on"}  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def file(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """What the server lists."""
    found = tmp_path / "tools.json"
    settings.MCP_COMMANDS = {"test": (sys.executable, SCRIPT, "none", str(found), "*")}
    settings.DATA_DIR = tmp_path
    found.write_text(json.dumps([TOOL]))
    yield found
    loop.run(pool.close(), timeout_s=15)


@pytest.fixture
def server(workspace: Workspace) -> McpServer:
    return McpServer.objects.create(workspace=workspace, name="srv", transport="stdio", command="test")


def test_a_server_is_defined_and_refreshed_and_its_change_approved(
    staff: Any, workspace: Workspace, file: Path
) -> None:
    author = staff(Role.AUTHOR)
    assert author.post(f"{LIST}add/", workspace=str(workspace.pk), **FORM).headers["Location"] == LIST
    server = McpServer.objects.get()
    author.post(f"{LIST}{server.pk}/refresh/")
    assert McpTool.objects.get().state == "active"
    file.write_text(json.dumps([{**TOOL, "title": "Other"}]))
    author.post(f"{LIST}{server.pk}/refresh/")
    page = author.page(f"{LIST}{server.pk}/change/")
    assert '+  "title": "Other"' in page.body.text()
    assert not [one for one in page.css("script") if "alert(1)" in one.text()]
    tool = McpTool.objects.get()
    author.post(f"{LIST}{server.pk}/approve/", tool=str(tool.pk), digest="other")
    assert McpTool.objects.get().state == "changed"
    author.post(f"{LIST}{server.pk}/approve/", tool=str(tool.pk), digest=tool.proposed_digest)
    assert (McpTool.objects.get().state, McpTool.objects.get().definition["title"]) == ("active", "Other")


def test_a_wrong_server_is_told_on_the_form(staff: Any, workspace: Workspace) -> None:
    page = staff(Role.AUTHOR).post(f"{LIST}add/", workspace=str(workspace.pk), **{**FORM, "command": "/bin/sh"})
    assert "AGENTSYS_MCP_COMMANDS names what may be started: test." in page.content.decode()
    assert not McpServer.objects.exists()


def test_an_author_does_not_trust_and_a_viewer_changes_nothing(staff: Any, server: McpServer, elsewhere: Any) -> None:
    staff(Role.AUTHOR).post(f"{LIST}{server.pk}/change/", **{**FORM, "trusted": "on"})
    viewer, stranger = staff(Role.VIEWER), staff(Role.ADMIN, elsewhere)
    assert viewer.get(f"{LIST}{server.pk}/change/").status_code == 200
    assert viewer.post(f"{LIST}{server.pk}/refresh/").status_code == 403
    assert stranger.post(f"{LIST}{server.pk}/refresh/").status_code == 404
    assert staff(Role.AUTHOR).get(f"{LIST}{server.pk}/refresh/").status_code == 405
    assert not McpTool.objects.exists()
    assert not McpServer.objects.get().trusted
    staff(Role.ADMIN).post(f"{LIST}{server.pk}/change/", **{**FORM, "trusted": "on"})
    assert McpServer.objects.get().trusted
