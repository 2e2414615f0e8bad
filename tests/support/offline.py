"""The offline model as the planner asks it, and a plan carried out step by step."""

from collections.abc import Iterable, Sequence
from typing import Any

from agentsys.agents import references
from agentsys.agents.planner import tool_of
from agentsys.agents.plans import Plan, parse_plan
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, Purpose
from agentsys.tools import registry, runner
from agentsys.tools.registry import ToolSpec
from agentsys.tools.testing import MemoryFiles, context


def built_in() -> list[ToolSpec]:
    """The tools that come along, without those of tests."""
    return [spec for spec in registry.all_tools().values() if spec.function.__module__.startswith("agentsys.")]


def ask(purpose: Purpose, tools: Iterable[ToolSpec] | None = None, **known: Any) -> Any:
    specs = built_in() if tools is None else tools
    request = ModelRequest(purpose, "", "", tuple(map(tool_of, specs)), context=known)
    return client.complete("offline", request, timeout_s=10).output


def plan(goal: str, *, tools: Iterable[ToolSpec] | None = None, files: Sequence[str] = (), input: Any = None) -> Any:
    """The plan as the offline model hands it in."""
    return ask("plan", tools, goal=goal, files=tuple(files), input=input)


def checked(data: Any, tools: Iterable[ToolSpec] | None = None) -> Plan:
    specs = built_in() if tools is None else tools
    return parse_plan(data, tools={spec.name: spec for spec in specs})


def carry_out(goal: str, *, files: MemoryFiles | None = None, input: Any = None) -> Any:
    """Plan a goal, run its steps one after the other with the real tools, and render the answer."""
    files = files or MemoryFiles()
    made = checked(plan(goal, files=list(files.contents), input=input))
    values: dict[str, Any] = {"input": input, "goal": goal}
    for step in made.steps:
        if step.kind == "tool":
            arguments = references.render(step.arguments, values)
            values[step.key] = runner.run(registry.get(step.tool), arguments, context(files=files))
    return references.render(made.answer, values)
