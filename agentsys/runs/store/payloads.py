"""Values over 8 KB: kept once a workspace by their content, and named where they belong, so that hot rows stay small.

The name is a reference, ``{"$payload": sha256, "bytes": n}``, in the place of the value.  A value that has that key
itself is kept the same way, so a reference is never anybody's own.  Whoever reads by the ORM gets the value (see
models.stored), statements ask for it with ``runs_value``; what only copies a row copies the reference.

Content is kept while a run uses it (``runs_payloaduse``); a use goes with its run.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from agentsys.core import db

from .sql import SQL

#: Of a value as compact JSON in UTF-8; up to this it stays in its row.
LIMIT_BYTES = 8_192
KEY = "$payload"
_SIGN = b'"$payload"'


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose values: the workspace that they stay in, and the run that keeps them; None: it is still to be written."""

    workspace_id: UUID
    run_id: UUID | None = None


def text(value: Any, owner: Owner) -> bytes:
    """JSON for a row: of the value, or of the reference to it.

    Costs one statement for a value that is kept elsewhere, and nothing for others.  The value is one that
    sanitize.clean has seen.
    """
    raw = to_json(value)
    return to_json(_put(raw, owner)) if _is_kept_elsewhere(value, raw) else raw


def packed(value: Any, owner: Owner) -> Any:
    """As :func:`text`, for who writes the JSON himself."""
    raw = to_json(value)
    return _put(raw, owner) if _is_kept_elsewhere(value, raw) else value


def may_need_packing(raw: bytes) -> bool:
    """Whether anything in this JSON could be kept elsewhere."""
    return len(raw) > LIMIT_BYTES or _SIGN in raw


def unpacked(value: Any, workspace_id: UUID) -> Any:
    """The value itself; one query for a reference."""
    if not is_reference(value):
        return value
    return db.rows(SQL["payload_value"], workspace_id=workspace_id, reference=to_json(value).decode())[0]["value"]


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and KEY in value


class Uses:
    """What runs use that are still to be written: packed before them, and kept in their transaction."""

    def __init__(self, workspace_id: UUID) -> None:
        self._workspace_id = workspace_id
        self._found: list[tuple[UUID, str]] = []

    def packed(self, value: Any, run_id: UUID) -> Any:
        """As the function of this name."""
        made = packed(value, Owner(self._workspace_id))
        self.add(made, run_id)
        return made

    def rows(self, rows: Iterable[Mapping[str, Any]], run_id: UUID) -> list[dict[str, Any]]:
        """Rows of steps with their arguments packed; those of planning steps are ours, and statements change them."""
        return [
            {**row, "arguments": row["arguments"] if row["kind"] == "plan" else self.packed(row["arguments"], run_id)}
            for row in rows
        ]

    def add(self, value: Any, run_id: UUID) -> None:
        """The run uses what ``value`` names, should it be a reference."""
        if is_reference(value):
            self._found.append((run_id, value[KEY]))

    def keep(self, written: Collection[UUID]) -> None:
        """Write down those of the runs that were written, in their transaction.  At most one statement."""
        found = [use for use in self._found if use[0] in written]
        if found:
            runs, names = zip(*found, strict=True)
            db.rows(SQL["use_payloads"], workspace_id=self._workspace_id, runs=list(runs), sha256=list(names))

    def __bool__(self) -> bool:
        return bool(self._found)


def packed_rows(rows: Iterable[Mapping[str, Any]], owner: Owner) -> list[dict[str, Any]]:
    """Rows of steps with their arguments packed."""
    return [{**row, "arguments": packed(row["arguments"], owner)} for row in rows]


def _is_kept_elsewhere(value: Any, raw: bytes) -> bool:
    return len(raw) > LIMIT_BYTES or (_SIGN in raw and is_reference(value))


def _put(raw: bytes, owner: Owner) -> dict[str, Any]:
    sha256 = hashlib.sha256(raw).hexdigest()
    db.rows(
        SQL["put_payload"],
        workspace_id=owner.workspace_id,
        run_id=owner.run_id,
        sha256=sha256,
        size=len(raw),
        content=raw,
    )
    return {KEY: sha256, "bytes": len(raw)}
