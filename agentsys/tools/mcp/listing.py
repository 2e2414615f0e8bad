"""What a server says of its tools, judged: nothing of it is believed before it has been looked at."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentsys.core import schemas
from agentsys.core.sanitize import clean
from agentsys.tools.registry import Effect

MAX_TOOLS = 1_000
MAX_DEFINITION_BYTES = 100_000
#: What providers take as a tool's name, its dots written as ``__`` (llm/wire.py).
MAX_WIRE_CHARS = 64
SERVER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
#: The parts of a definition that say what the tool is and does.  Icons and ``_meta`` do not.
_PARTS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool that can be used."""

    name: str
    definition: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A tool that cannot, and why; shown to whoever refreshes its server."""

    name: str
    reason: str


def judged(server: str, tools: Sequence[Mapping[str, Any]]) -> tuple[list[Listed], list[Refused]]:
    """What of a server's listing can be used, and what cannot.  Of two tools of one name neither can.

    Args:
        server: Our name of the server.
        tools: As MCP writes them, at most MAX_TOOLS.
    """
    names = [str(tool.get("name")) for tool in tools]
    usable, refused = [], []
    for name, tool in zip(names, tools, strict=True):
        twice = "The server lists two tools of this name." if names.count(name) > 1 else ""
        if reason := twice or next(_faults(server, name, tool), ""):
            refused.append(Refused(_shown(name), reason))
        else:
            definition = defined(tool)
            usable.append(Listed(name, definition, digest(definition)))
    return usable, list(dict.fromkeys(refused))


def _faults(server: str, name: str, tool: Mapping[str, Any]) -> Iterator[str]:
    if not _TOOL_NAME.fullmatch(name):
        yield "Its name has other characters than letters, digits, _, - and dots."
    if len(f"{server}.{name}".replace(".", "__")) > MAX_WIRE_CHARS:
        yield f"{_shown(server)}.{_shown(name)} is too long a name; models take {MAX_WIRE_CHARS} characters."
    if not _storable(tool):
        yield f"Its definition is larger than {MAX_DEFINITION_BYTES:,} bytes, too deep, or no Unicode."
    for part in ("inputSchema", "outputSchema"):
        for fault in schemas.faults(tool.get(part), path=part)[:1]:
            yield f"{fault['path']}: {fault['message']}"
    if (tool.get("inputSchema") or {}).get("type", "object") != "object":
        yield "inputSchema: arguments are an object."


def _storable(tool: Mapping[str, Any]) -> bool:
    try:
        return bool(clean(defined(tool), max_bytes=MAX_DEFINITION_BYTES) == defined(tool))
    except Exception:
        return False


def defined(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a tool that are pinned."""
    return {part: tool[part] for part in _PARTS if tool.get(part) is not None}


def digest(definition: Mapping[str, Any]) -> str:
    """SHA-256 of a definition, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def effect_of(definition: Mapping[str, Any], *, trusted: bool) -> Effect:
    """What a repetition does: harm, unless a trusted server says otherwise."""
    hints = definition.get("annotations") or {}
    if trusted and hints.get("readOnlyHint") is True:
        return "pure"
    if trusted and hints.get("idempotentHint") is True:
        return "idempotent"
    return "unsafe"


def _shown(name: str) -> str:
    return "".join(part if part.isprintable() else "�" for part in name[:100])
