"""From a goal to a valid plan, by whichever model the agent uses."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentsys.agents.plan_types import NOTHING, Plan, Standing
from agentsys.agents.plans import parse_plan
from agentsys.agents.progress import Progress
from agentsys.agents.prompts import Prompts, sections
from agentsys.core.errors import GoalNotPlannable, ModelUnavailable, PlanInvalid
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, ToolDef, Usage
from agentsys.tools.registry import ToolSpec

#: How often a model may correct a plan that is not valid.
REPAIRS = 2
#: What a model fills in: CONTRACT's grammar, or what it cannot do.
PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "string"},
                    "kind": {"enum": ["tool", "answer", "ask", "act"]},
                    "tool": {"type": "string"},
                    "arguments": {"type": "object"},
                    "objective": {"type": "string"},
                    "depends_on": {"type": "array", "items": {"type": "string"}},
                    "title": {"type": "string"},
                },
                "required": ["key"],
            },
        },
        "answer": {"description": "Any JSON with references."},
        "cannot": {"type": "string", "description": "The part of the goal that no tool can do, and why."},
    },
}


def make_plan(
    goal: str,
    *,
    model: str,
    tools: Mapping[str, ToolSpec],
    input: Any,
    files: Sequence[str],
    prompts: Prompts,
    max_steps: int,
    timeout_s: float,
    messages: Sequence[str] = (),
    max_fan_out: int = 1_000,
    progress: Progress | None = None,
    ask: client.Complete = client.complete,
) -> tuple[Plan, Usage]:
    """Plan ``goal`` with ``tools``; the plan is validated exactly as a submitted one.

    ``messages`` are what people have told the run since; the offline model does not read them.  With ``progress``
    the plan replaces what had not started of an earlier one.  ``ask`` asks the model.

    Costs one model call, and up to two more while the plan is not valid.

    Raises:
        GoalNotPlannable: the message names the part of the goal that no tool can do.
        PlanInvalid: the model's plans stayed invalid; ``errors`` has the faults of the last one.
        ModelFailed, ModelUnavailable: see ``llm.client.complete``.
    """
    request = _request(goal, tools=tools, input=input, files=files, prompts=prompts, max_steps=max_steps)
    if messages:
        request = replace(request, prompt=f"{request.prompt}\n\n{sections(messages=list(messages))}")
    if progress is not None:
        request = _anew(request, progress, prompts)
    bounds = _Bounds(tools, max_steps, max_fan_out, progress.standing() if progress else NOTHING)
    prompt, usage, faults = request.prompt, Usage(), PlanInvalid()
    until = time.monotonic() + timeout_s
    for _ in range(REPAIRS + 1):
        response = ask(model, request, timeout_s=_left(until, model))
        usage += response.usage
        try:
            return bounds.parsed(response.output), usage
        except PlanInvalid as invalid:
            if model == client.OFFLINE:
                raise _not_plannable(response.output, invalid) from None
            faults = invalid
            request = replace(request, prompt=prompts.repair(prompt, response.output, faults.data["errors"]))
    message = f"The model's plan was still not valid after {REPAIRS} corrections. {faults.message}"
    raise PlanInvalid(message, **faults.data)


def _request(
    goal: str, *, tools: Mapping[str, ToolSpec], input: Any, files: Sequence[str], prompts: Prompts, max_steps: int
) -> ModelRequest:
    known = tuple(tool_of(spec) for spec in tools.values())
    catalogue = [
        {"name": t.name, "description": t.description, "arguments": t.parameters, "output": t.output_schema}
        for t in known
    ]
    return ModelRequest(
        purpose="plan",
        system=prompts.system("plan"),
        prompt=sections(tools=catalogue, files=list(files), input=input, goal=goal),
        tools=known,
        output_schema=PLAN_SCHEMA,
        context={"goal": goal, "input": input, "files": tuple(files), "max_steps": max_steps},
    )


def _anew(request: ModelRequest, progress: Progress, prompts: Prompts) -> ModelRequest:
    """The same question for a run that is under way."""
    return replace(
        request,
        system=f"{request.system}\n\n{prompts.text('replan')}",
        prompt=f"{request.prompt}\n\n{sections(**progress.sections())}",
        context={**request.context, "progress": progress.as_json()},
    )


def tool_of(spec: ToolSpec) -> ToolDef:
    """A tool as models see it."""
    return ToolDef(
        name=spec.name,
        description=spec.description,
        parameters=spec.input_schema,
        examples=spec.examples,
        output_schema=spec.output_schema,
        result_path=spec.result_path,
        careful=spec.effect not in ("pure", "idempotent"),
    )


def _left(until: float, model: str) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise ModelUnavailable(f"{model} took too long to hand in a valid plan.", model=model)
    return left_s


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a model's plan is checked against."""

    tools: Mapping[str, ToolSpec]
    max_steps: int
    max_fan_out: int
    standing: Standing

    def parsed(self, output: Any) -> Plan:
        """
        Raises:
            GoalNotPlannable: the model says what it cannot do.
            PlanInvalid: with all faults.
        """
        if isinstance(output, dict) and output.get("cannot"):
            part = " ".join(str(output["cannot"]).split())[:1_000]
            raise GoalNotPlannable(f"The model cannot plan this: {part}", clause=part)
        if isinstance(output, dict):
            output = {name: part for name, part in output.items() if name != "cannot"}
        return parse_plan(
            output,
            tools=self.tools,
            max_steps=self.max_steps,
            max_fan_out=self.max_fan_out,
            standing=self.standing,
        )


def _not_plannable(output: Any, invalid: PlanInvalid) -> GoalNotPlannable:
    """The offline model is asked once: what its plan lacks, the goal lacks; its steps' titles are the clauses."""
    fault = invalid.data["errors"][0]
    place = re.match(r"steps\[(\d+)\]", fault["path"])
    clause = output["steps"][int(place[1])].get("title", "") if place else ""
    reason = f"{fault['path'].rpartition('arguments.')[2]}: {fault['message']}"
    return GoalNotPlannable(f'Cannot plan "{clause}": {reason}', clause=clause, reason=reason)
