"""MCP servers of the tests' own as rows of a workspace."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentsys.accounts.models import Role, User, Workspace
from agentsys.core import loop
from agentsys.tools.mcp import pool, services
from agentsys.tools.models import McpServer

SCRIPT = str(Path(__file__).parents[2] / "support" / "mcp_server.py")


@pytest.fixture(autouse=True)
def _no_session_is_left() -> Iterator[None]:
    """A session lives as long as its loop."""
    yield
    loop.run(pool.close(), timeout_s=15)
    loop.stop(timeout_s=15)
    left = [one.cmdline() for one in psutil.Process().children(recursive=True) if SCRIPT in one.cmdline()]
    assert not left, left


@pytest.fixture
def boss(make_user: Any) -> User:
    return make_user("boss", Role.ADMIN)


@pytest.fixture
def hostile(workspace: Workspace, boss: User, settings: Any, tmp_path: Path) -> Callable[..., McpServer]:
    """A server with this fault, refreshed unless it is told not to."""
    settings.MCP_COMMANDS = {"test": (sys.executable, SCRIPT, "*")}
    settings.DATA_DIR = tmp_path

    def make(fault: str = "none", *, file: Path | None = None, refresh: bool = True, **given: Any) -> McpServer:
        args = [fault, *([str(file)] if file else [])]
        values = {"name": "srv", "transport": "stdio", "command": "test", "args": args, **given}
        made = services.define(workspace.pk, values, user=boss, may_trust=True)
        return services.refresh(made) if refresh else made

    return make


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    """A file of tools that a server lists, and that may be written anew."""

    def write(*tools: dict[str, Any]) -> Path:
        path = tmp_path / "tools.json"
        path.write_text(json.dumps(list(tools)))
        return path

    return write
