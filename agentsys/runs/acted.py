"""A step that acts, as the model that acts for it is told: its task, and what its calls have given."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from agentsys.agents import references
from agentsys.agents.acting import Task
from agentsys.agents.history import MAX_OUTPUT_CHARS, Call, History
from agentsys.agents.plan_types import PlanStep
from agentsys.core import db
from agentsys.core.errors import ToolFailed
from agentsys.tools import registry
from agentsys.tools.registry import ToolSpec

from . import files, loops, recorded
from .models import Run
from .pinned import allowed_tools, max_turns, prompts_of
from .recorded import RECORDED
from .rendering import outputs_of, rendered
from .states import StepStatus
from .store import messages
from .store.claims import Claim
from .store.derive import turn_of
from .store.sql import SQL

#: Calls whose outputs are read again each turn; older ones are told in a line.
RECENT = 64
#: What whoever acts may always call: it reads what its calls gave.
READ = "observation.read"


def task(claim: Claim, run: Run, arguments: Mapping[str, Any]) -> Task:
    """What is asked of the model in this turn.

    Raises:
        NotFound, InvalidInput …: as the objective's references do.
    """
    version, history = run.agent_version, so_far(claim)
    return Task(
        objective=rendered(run.pk, claim.objective) or run.goal,
        tools=_tools(run, arguments),
        prompts=prompts_of(version),
        outputs=outputs_of(run.pk, [key for key in claim.depends_on if "." not in key]),
        input=run.input,
        files=[entry["name"] for entry in files.listing(run.pk)],
        messages=messages.read(claim),
        output_schema=arguments.get("schema"),
        history=history,
        may_call=history.turns < max_turns(version),
    )


def _tools(run: Run, arguments: Mapping[str, Any]) -> dict[str, ToolSpec]:
    allowed, named = allowed_tools(run.agent_version), arguments.get("tools")
    tools = {name: spec for name, spec in allowed.items() if named is None or name in named}
    tools[READ] = registry.get(READ)
    return recorded.marked(run.pk, tools) if run.effects == RECORDED else tools


def so_far(claim: Claim) -> History:
    """The calls of earlier turns.  One query."""
    rows = db.rows(SQL["calls_so_far"], run_id=claim.run_id, key=claim.key, most=MAX_OUTPUT_CHARS, recent=RECENT)
    return History([_call(row) for row in rows])


def _call(row: db.Row) -> Call:
    ok = row["status"] == StepStatus.SUCCEEDED
    output, size = (row["output"], row["size"] or 0) if ok else _told(row)
    return Call(
        step=row["key"],
        turn=turn_of(row),
        tool=row["tool"] or row["kind"],
        arguments=references.render(row["arguments"] or {}, {}),
        brief=row["brief"] or "",
        ok=ok,
        output=output,
        size=size,
        said=row["said"],
    )


def _told(row: db.Row) -> tuple[str, int]:
    error = row["error"] or {"code": row["status"], "message": "It was not carried out."}
    text = json.dumps({"error": {name: error.get(name) for name in ("code", "message")}}, ensure_ascii=False)
    return text, len(text)


def reader(run_id: UUID) -> Callable[[str], Any]:
    """Outputs of the run's steps by their keys, for tools."""

    def output_of(step: str) -> Any:
        with db.lent():
            found = outputs_of(run_id, [step])
        if step not in found:
            raise ToolFailed(f"The run has no step {step[:80]!r}.", step=step[:80])
        return found[step]

    return output_of


def checked(run_id: UUID) -> Callable[[PlanStep], None]:
    """Refuses calls that the run has made again and again with the same end."""

    def check(step: PlanStep) -> None:
        if step.kind == "tool" and step.tool != READ:
            with db.lent():
                loops.check(run_id, step.tool, references.render(step.arguments, {}))

    return check
