"""A step of kind act: an objective that a model reaches by calls of its own choice."""

from collections.abc import Mapping
from typing import Any

from agentsys.agents.plan_ask import check_schema
from agentsys.agents.plan_faults import shown
from agentsys.agents.plan_fields import Fields
from agentsys.agents.references import join_path
from agentsys.tools.registry import ToolSpec


def check_act(fields: Fields, arguments: dict[str, Any], tools: Mapping[str, ToolSpec]) -> None:
    """``objective``, a template; ``{"tools": [names]}`` are all that it may call, ``{"schema": JSON Schema}`` bounds
    its result.
    """
    if fields.is_blank("objective"):
        fields.fault("objective", "missing", "A step of kind act needs its objective.")
    for name in arguments.keys() - {"tools", "schema"}:
        fields.fault(join_path("arguments", name), "argument_unknown", "act takes only tools and schema.")
    if arguments.get("schema") is not None:
        check_schema(fields, arguments["schema"])
    _check_tools(fields, arguments.get("tools"), tools)


def _check_tools(fields: Fields, named: Any, tools: Mapping[str, ToolSpec]) -> None:
    if named is None:
        return
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        fields.fault("arguments.tools", "argument_type", "tools must be a list of names.")
        return
    for n, name in enumerate(named):
        if name not in tools:
            fields.fault(f"arguments.tools[{n}]", "unknown_tool", f"There is no tool {shown(name)} for this agent.")
