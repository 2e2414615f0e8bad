"""Test doubles for tools: shipped, so that a package of tools tests as ours do."""

import math
from collections.abc import Callable, Mapping

from agentsys.core.errors import NotFound, ToolFailed
from agentsys.tools.context import FileInfo, FileStore, Listing, ToolContext


class MemoryFiles:
    """A run's files in a dictionary."""

    def __init__(self, files: Mapping[str, bytes | str] | None = None) -> None:
        self.contents: dict[str, bytes] = {}
        for name, content in (files or {}).items():
            self.write(name, content)

    def read(self, name: str) -> bytes:
        if name not in self.contents:
            raise NotFound(f"There is no file named {name!r} in this run.", file=name)
        return self.contents[name]

    def write(self, name: str, content: bytes | str) -> None:
        self.contents[name] = content.encode() if isinstance(content, str) else bytes(content)

    def list(self) -> Listing:
        return [FileInfo(name=name, size=len(self.contents[name])) for name in sorted(self.contents)]


def context(
    *,
    files: FileStore | None = None,
    secrets: Mapping[str, str] | None = None,
    ensure_lease: Callable[[], None] = lambda: None,
    deadline_at: float = math.inf,
    idempotency_key: str = "key-1",
    run_id: str = "00000000-0000-0000-0000-000000000001",
    step_key: str = "step",
) -> ToolContext:
    """A context for one call: held lease, no secrets and no files unless given."""

    def secret(name: str) -> str:
        if name not in (secrets or {}):
            raise ToolFailed(f"There is no secret named {name!r} for this run.", secret=name)
        return (secrets or {})[name]

    return ToolContext(
        run_id=run_id,
        step_key=step_key,
        idempotency_key=idempotency_key,
        files=files if files is not None else MemoryFiles(),
        deadline_at=deadline_at,
        ensure_lease=ensure_lease,
        secret=secret,
    )
