"""What models were asked and what they answered, kept by content: see models.ModelCall.

A step that asks again and again adds to what is kept only what is new: the call names the one before it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic_core import to_json

from agentsys.core import db
from agentsys.core.errors import AgentSysError, ToolOutputTooLarge
from agentsys.core.sanitize import clean
from agentsys.llm.keys import own_keys
from agentsys.llm.parts import assembled, parts_of
from agentsys.llm.types import ModelRequest, Usage
from agentsys.runs.told import told

from .claims import Claim
from .sql import SQL

#: A call names all its parts after so many that name only what is new.
MAX_DEPTH = 32
#: Of one part, and of an answer; what is larger is not kept.
MAX_BYTES = 20_000_000
#: How long a lost connection is made up for, in seconds: the step's result comes after this.
PERSISTS_S = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its parts, each by the SHA-256 of its JSON, and the digest of all and of whom it was put to."""

    model: str
    request: ModelRequest
    parts: Sequence[str]
    contents: Mapping[str, bytes]
    digest: str

    @classmethod
    def of(cls, model: str, request: ModelRequest) -> "Asked":
        named = [_named(part) for part in parts_of(request)]
        parts = [name for name, _ in named]
        return cls(model, request, parts, dict(named), _sha256("\n".join([model, *parts]).encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of a call: an answer, or an error."""

    output: Any = None
    error: AgentSysError | None = None
    usage: Usage = field(default_factory=Usage)
    priced_by: str = ""
    took_s: float = 0.0
    cached: bool = False


def record(claim: Claim, number: int, asked: Asked, came: Came) -> None:
    """Keep the ``number``-th call of an attempt.  Two round trips; of no effect when it is kept already."""
    db.persistent(lambda: _record(claim, number, asked, came), for_s=PERSISTS_S)


def _record(claim: Claim, number: int, asked: Asked, came: Came) -> None:
    before = db.rows(SQL["chain_of_calls"], step_id=claim.id, id=None)
    base, kept = _shared(before, asked.parts)
    answer, content = ("", b"") if came.error else _named(came.output)
    new = {name: asked.contents[name] for name in asked.parts[kept:]} | ({answer: content} if answer else {})
    names = sorted(new)
    db.rows(
        SQL["record_call"], workspace_id=claim.workspace_id, run_id=claim.run_id, step_id=claim.id, number=number,
        attempt=claim.attempt, purpose=asked.request.purpose, model=asked.model, digest=asked.digest,
        base_id=base and base["id"], kept=kept, parts=list(asked.parts[kept:]), depth=base["depth"] + 1 if base else 1,
        max_output_tokens=asked.request.max_output_tokens, answer=answer, cached=came.cached,
        error=Jsonb(told(came.error)) if came.error else None, input_tokens=came.usage.input_tokens,
        output_tokens=came.usage.output_tokens, cost_usd=came.usage.cost_usd, priced_by=came.priced_by,
        took_s=came.took_s, sha256=names, contents=[new[name] for name in names],
    )  # fmt: skip


def _shared(before: Sequence[db.Row], parts: Sequence[str]) -> tuple[db.Row | None, int]:
    """The call to name, and how many of its first parts are ours, too."""
    if not before or before[-1]["depth"] >= MAX_DEPTH:
        return None, 0
    kept = 0
    for theirs, ours in zip(_parts(before), parts, strict=False):
        if theirs != ours:
            break
        kept += 1
    return before[-1], kept


def _parts(chain: Iterable[db.Row]) -> list[str]:
    parts: list[str] = []
    for call in chain:
        parts = [*parts[: call["kept"]], *call["parts"]]
    return parts


def answered_before(asked: Asked, workspace_id: UUID, *, within_s: float) -> tuple[Any] | None:
    """What the model has answered to the very same in this workspace, within so many seconds; None: nothing."""
    row = db.row(SQL["answered_before"], workspace_id=workspace_id, digest=asked.digest, within_s=within_s)
    return None if row is None else (json.loads(row["content"]),)


def read(workspace_id: UUID, step_id: int, call_id: int, answer: str) -> tuple[dict[str, Any], Any]:
    """What a call was asked, see ``parts.assembled``, and what was answered.  What is kept no more is left out."""
    parts = _parts(db.rows(SQL["chain_of_calls"], step_id=step_id, id=call_id))
    wanted = sorted({*parts, answer} - {""})
    rows = db.rows(SQL["contents"], workspace_id=workspace_id, sha256=wanted)
    contents = {row["sha256"]: json.loads(bytes(row["content"])) for row in rows}
    return assembled([contents[name] for name in parts if name in contents]), contents.get(answer)


def _named(value: Any) -> tuple[str, bytes]:
    try:
        raw = to_json(own_keys().value(clean(value, max_bytes=MAX_BYTES)))
    except ToolOutputTooLarge:
        raw = to_json({"left_out": "larger than what is kept"})
    return _sha256(raw), raw


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
