"""The way to MCP servers for those who do not know the library: it is heavy, and imported on first use."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from agentsys.core import loop
from agentsys.tools.mcp.endpoint import Endpoint

#: Longer than connecting and listing may take together.
LISTING_S = 60.0


@dataclass(frozen=True, slots=True)
class Pin:
    """The tool that is meant: its name at the server, the hash of its approved definition."""

    tool: str
    digest: str
    repeatable: bool
    output_schema: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Tools as MCP writes them, and the version of the protocol that was spoken."""

    tools: tuple[dict[str, Any], ...]
    protocol_version: str


class Changed(Exception):
    """The server describes a tool otherwise than it was approved: so, or (None) not at all."""

    def __init__(self, definition: dict[str, Any] | None) -> None:
        super().__init__("changed")
        self.definition = definition


def tools_of(endpoint: Endpoint) -> Listing:
    """Ask a server for its tools; at most a minute.  See ``calls.tools_of``."""
    asked: Coroutine[Any, Any, Listing] = import_string(settings.MCP_TOOLS_OF)(endpoint)
    return loop.run(asked, timeout_s=LISTING_S)


def call(endpoint: Endpoint, pin: Pin, arguments: Mapping[str, Any], *, left_s: float) -> Coroutine[Any, Any, Any]:
    """See ``calls.call``; the library is imported on the calling thread, not on the loop."""
    made: Coroutine[Any, Any, Any] = import_string(settings.MCP_CALL)(endpoint, pin, arguments, left_s=left_s)
    return made
