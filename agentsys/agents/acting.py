"""One turn of a model that acts: it sees its objective and what its calls have given, and calls again or is done."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentsys.agents import answer, references
from agentsys.agents.history import History
from agentsys.agents.plan_types import PlanStep
from agentsys.agents.planner import tool_of
from agentsys.agents.plans import parse_plan
from agentsys.agents.prompts import Prompts, sections
from agentsys.core.errors import CallsInvalid, LoopDetected, ModelUnavailable, OutputInvalid, PlanInvalid
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, Usage
from agentsys.tools.registry import ToolSpec

#: How often a model may correct calls, or a result, in one turn.
REPAIRS = 2
#: At once.
MAX_CALLS = 16
MAX_SAID_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Calls:
    """What is to be called, all at the same time; arguments are templates that render to what the model gave."""

    steps: tuple[PlanStep, ...]
    said: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The objective is reached."""

    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a model acts for.

    ``outputs`` are those of the steps before it; ``output_schema`` is the shape of its result; ``may_call`` is false
    in its last turn.
    """

    objective: str
    tools: Mapping[str, ToolSpec]
    prompts: Prompts = field(default_factory=Prompts)
    outputs: Mapping[str, Any]
    input: Any = None
    files: Sequence[str] = ()
    messages: Sequence[str] = ()
    output_schema: dict[str, Any] | None = None
    history: History
    may_call: bool = True


def decide(
    task: Task,
    *,
    model: str,
    timeout_s: float,
    check: Callable[[PlanStep], None] = lambda _step: None,
    told: client.Told | None = None,
    ask: client.Complete = client.complete,
) -> tuple[Calls | Done, Usage]:
    """Take a turn.  Costs one model call, and up to two more while what it asks for cannot be done.

    Args:
        check: is asked about each call that could be made; raises LoopDetected where it should not.

    Raises:
        CallsInvalid: its calls stayed wrong; ``errors`` has the faults.
        LoopDetected: it insists on a call that has taught it nothing.
        OutputInvalid: its result does not match the schema.
        ModelFailed, ModelUnavailable, GoalNotPlannable: see ``llm.client.complete``.
    """
    first = request = _request(task)
    usage, until = Usage(), time.monotonic() + timeout_s
    refused: Exception = CallsInvalid()
    for _ in range(1 if model == client.OFFLINE else REPAIRS + 1):
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise ModelUnavailable(f"{model} took too long to decide.", model=model)
        response = ask(model, request, timeout_s=left_s, told=told)
        usage += response.usage
        try:
            return _decided(response.output, task, check), usage
        except (CallsInvalid, OutputInvalid, LoopDetected) as error:
            refused = error
        faults = refused.data.get("errors") or [refused.message]
        request = replace(first, note=f"{first.note}\n\n{task.prompts.repair('', response.output, faults)}".strip())
    raise refused


def _request(task: Task) -> ModelRequest:
    earlier, turns = task.history.told()
    note = "" if task.may_call else task.prompts.text("act_last")
    return ModelRequest(
        purpose="act",
        system=task.prompts.system("act"),
        prompt=sections(
            objective=task.objective, input=task.input, files=list(task.files), outputs=dict(task.outputs),
            messages=list(task.messages), earlier="\n".join(earlier),
        ),
        tools=tuple(tool_of(spec) for spec in task.tools.values()) if task.may_call else (),
        output_schema=task.output_schema,
        context={
            "objective": task.objective, "input": task.input, "files": tuple(task.files),
        },
        turns=turns,
        note=note,
    )  # fmt: skip


def _decided(output: Any, task: Task, check: Callable[[PlanStep], None]) -> Calls | Done:
    if "result" in output:
        if faults := answer.mismatches(output["result"], task.output_schema):
            raise OutputInvalid(f"The result does not match the output schema: {faults[0]}", errors=faults)
        return Done(output["result"])
    steps = _steps(output["calls"], task)
    for step in steps:
        check(step)
    return Calls(steps, str(output.get("text") or "")[:MAX_SAID_CHARS])


def _steps(calls: Sequence[Mapping[str, Any]], task: Task) -> tuple[PlanStep, ...]:
    if not task.may_call:
        raise CallsInvalid("No calls are left.", errors=["No calls are left: hand in the result."])
    if len(calls) > MAX_CALLS:
        raise CallsInvalid(f"At most {MAX_CALLS} calls at once.", errors=[f"At most {MAX_CALLS} calls at once."])
    plan = {"steps": [_as_step(n, call) for n, call in enumerate(calls)]}
    try:
        steps = parse_plan(plan, tools=task.tools).steps
    except PlanInvalid as invalid:
        faults = [{**fault, "path": _path(fault["path"])} for fault in invalid.data["errors"]]
        raise CallsInvalid(f"The call cannot be made: {faults[0]['message']}", errors=faults) from None
    return tuple(replace(step, on_error="continue") for step in steps)


def _as_step(n: int, call: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": f"call{n}", "tool": call["tool"], "arguments": literal(call["arguments"])}


def _path(of_plan: str) -> str:
    """Where it is among the calls, as models see them."""
    return of_plan.replace("steps[", "calls[", 1)


def literal(value: Any) -> Any:
    """A template that renders to ``value``: nothing in what a model writes is a reference."""
    if isinstance(value, str):
        return references.escape(value)
    if isinstance(value, dict):
        return {name: literal(part) for name, part in value.items()}
    return [literal(part) for part in value] if isinstance(value, list) else value
