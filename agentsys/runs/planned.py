"""What a run has planned and done, read from its steps for whoever plans on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentsys.agents.progress import Progress
from agentsys.core import db

from .models import Run
from .states import StepStatus
from .store.claims import Claim
from .store.messages import Told
from .store.sql import SQL

#: Of one output as JSON, in characters; whoever needs more refers to it.
MAX_OUTPUT_CHARS = 4_000
#: Of all outputs together; the newest first.
MAX_OUTPUTS_CHARS = 100_000
_FIELDS = ("key", "kind", "arguments", "depends_on", "title", "timeout_s", "max_attempts", "on_error", "if_failed")
_MORE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "tool": ("tool", "approval", "expires_s"),
    "ask": ("objective", "expires_s"),
    "answer": ("objective",),
    "delegate": ("objective",),
    "act": ("objective",),
}


def as_planned(step: db.Row) -> dict[str, Any]:
    """A step's row in the grammar of plans."""
    return {name: step[name] for name in (*_FIELDS, *_MORE_FIELDS.get(step["kind"], ()))}


def progress(claim: Claim, run: Run, told: Sequence[Told]) -> Progress:
    """How far the run of a planning step has come.  One query; outputs are cut.

    Nothing that it calls ``dropped`` can start before the step's plan is recorded, see ``store.replan``.
    """
    rows = db.rows(SQL["progress"], run_id=run.pk, most=MAX_OUTPUT_CHARS + 1)
    rows = [row for row in rows if row["reason"] != "superseded"]
    dropped = [row for row in rows if _is_unstarted(row)]
    ended = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)
    return Progress(
        done=list(_done([row for row in rows if row["status"] == StepStatus.SUCCEEDED])),
        under_way=[as_planned(row) for row in rows if row["status"] not in ended and not _is_unstarted(row)],
        failed=[_failed(row) for row in rows if row["status"] == StepStatus.FAILED],
        dropped=[as_planned(row) for row in dropped],
        taken=frozenset(row["key"] for row in rows) - {row["key"] for row in dropped},
        answer=run.answer["template"] if run.answer else None,
        asked=[one.text for one in told if one.replan and one.first == claim.key],
    )


def _done(rows: Sequence[db.Row]) -> Iterator[dict[str, Any]]:
    """{step, output}; of the last ones, as far as there is room, with their outputs."""
    left, first = MAX_OUTPUTS_CHARS, len(rows)
    while first and left >= len(rows[first - 1]["output"] or ""):
        first -= 1
        left -= len(rows[first]["output"] or "")
    for n, row in enumerate(rows):
        yield {"step": as_planned(row), "output": _cut(row["output"] or "null") if n >= first else "(left out)"}


def _cut(output: str) -> str:
    return output if len(output) <= MAX_OUTPUT_CHARS else f"{output[:MAX_OUTPUT_CHARS]}… (cut)"


def _failed(row: db.Row) -> dict[str, Any]:
    error = row["error"] or {}
    return {"step": as_planned(row), "error": {name: error.get(name) for name in ("code", "message")}}


def _is_unstarted(row: db.Row) -> bool:
    return row["status"] == StepStatus.BLOCKED and not row["attempt"]
