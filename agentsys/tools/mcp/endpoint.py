"""Where a server is and how it is reached, apart from its row: what the event loop works with."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.conf import settings

from agentsys.accounts.credential_terms import filled, named_in
from agentsys.core.errors import ToolFailed
from agentsys.tools.models import McpServer, Transport

#: In an allowed command: here a row's own arguments may stand.
OPEN = "*"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``command`` is empty for HTTP, ``url`` for stdio; ``folder`` is where a command runs.

    ``trusted``: what it asks for in the middle of a call is answered by its own defaults.
    """

    server: str
    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    folder: Path = Path()
    trusted: bool = False

    @property
    def key(self) -> str:
        """The same for two that may share a session."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()


def secrets_of(server: McpServer) -> tuple[str, ...]:
    """The names of the credentials that its headers have places for."""
    return tuple(sorted(set().union(*(named_in(value) for value in server.headers.values()))))


def of(server: McpServer, *, secret: Callable[[str], str]) -> Endpoint:
    """
    Args:
        secret: gives the secret of a credential's name, for the headers.

    Raises:
        ToolFailed: the operator allows its command no longer.
    """
    key = str(server.pk)
    if server.transport == Transport.HTTP:
        headers = {name: filled(value, secret) for name, value in server.headers.items()}
        return Endpoint(key, server.name, url=server.url, headers=headers, trusted=server.trusted)
    command = commanded(server.command, server.args)
    if command is None:
        raise ToolFailed(f"AGENTSYS_MCP_COMMANDS does not allow the command of {server.name}.", server=server.name)
    folder = Path(settings.DATA_DIR) / "mcp" / key
    return Endpoint(key, server.name, command=command, folder=folder, trusted=server.trusted)


def commanded(name: str, args: list[str]) -> tuple[str, ...] | None:
    """The command line of an allowed command; None: it is none, or takes no arguments."""
    allowed = settings.MCP_COMMANDS.get(name)
    if allowed is None or (args and OPEN not in allowed):
        return None
    return tuple(part for one in allowed for part in (args if one == OPEN else [one]))
