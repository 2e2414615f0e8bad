"""Our questions in pydantic-ai's form of a conversation, and its answers in ours."""

import json
from typing import Any

from pydantic_ai import messages
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from agentsys.llm.types import ModelRequest, ToolDef

#: The tool through which a model hands in structured output; every provider can call tools.
SUBMIT = "submit"


def messages_of(request: ModelRequest) -> list[messages.ModelMessage]:
    """The question, and the turns that the model has taken since, in the provider's own form of a conversation."""
    asked: list[messages.ModelMessage] = [
        messages.ModelRequest.user_text_prompt(request.prompt, instructions=request.system)
    ]
    for turn in request.turns:
        said = [messages.TextPart(turn.text)] if turn.text else []
        names = [_wire_name(call.tool) for call in turn.calls]
        calls = [
            messages.ToolCallPart(name, call.arguments, call.id) for name, call in zip(names, turn.calls, strict=True)
        ]
        came = [
            messages.ToolReturnPart(name, call.output, call.id) for name, call in zip(names, turn.calls, strict=True)
        ]
        asked += [
            messages.ModelResponse(parts=[*said, *calls]),
            messages.ModelRequest(parts=came, instructions=request.system),
        ]
    if request.note:
        asked.append(messages.ModelRequest.user_text_prompt(request.note, instructions=request.system))
    return asked


def parameters_of(request: ModelRequest) -> ModelRequestParameters:
    functions = [_definition(tool) for tool in request.tools] if request.purpose == "act" else []
    if request.output_schema is None:
        return ModelRequestParameters(function_tools=functions)
    submit = ToolDefinition(
        name=SUBMIT,
        description="Hand in the final result.",
        parameters_json_schema=_object_schema(request.output_schema),
        strict=False,
        kind="output",
    )
    return ModelRequestParameters(
        function_tools=functions, output_mode="tool", output_tools=[submit], allow_text_output=False
    )


def _definition(tool: ToolDef) -> ToolDefinition:
    return ToolDefinition(
        name=_wire_name(tool.name),
        description=tool.description,
        parameters_json_schema=tool.parameters,
        strict=False,
    )


def _wire_name(name: str) -> str:
    """Providers allow letters, digits, ``_`` and ``-`` in a tool's name."""
    return name.replace(".", "__")


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's parameters are an object; anything else travels as its one property ``value``."""
    if schema.get("type") == "object":
        return schema
    return {"type": "object", "properties": {"value": schema}, "required": ["value"]}


def output_of(request: ModelRequest, response: messages.ModelResponse) -> Any:
    calls = [part for part in response.parts if isinstance(part, messages.ToolCallPart)]
    text = "".join(part.content for part in response.parts if isinstance(part, messages.TextPart))
    if request.purpose == "act":
        return _act_output(request, calls, text)
    return _result(request, calls, text)


def _result(request: ModelRequest, calls: list[messages.ToolCallPart], text: str) -> Any:
    """What the model hands in, of the shape that was asked for if it did so as it was told."""
    if request.output_schema is None:
        return text
    value = _arguments(calls[0]) if calls else _json_or_text(text)
    wrapped = _object_schema(request.output_schema) is not request.output_schema
    return value["value"] if wrapped and isinstance(value, dict) and "value" in value else value


def _act_output(request: ModelRequest, calls: list[messages.ToolCallPart], text: str) -> dict[str, Any]:
    """Calls before a result: a model that does both at once has not seen yet what its calls give."""
    names = {_wire_name(tool.name): tool.name for tool in request.tools}
    wanted = [call for call in calls if call.tool_name != SUBMIT or request.output_schema is None]
    if not wanted:
        return {"result": _result(request, calls, text)}
    return {
        "calls": [
            {"tool": names.get(call.tool_name, call.tool_name), "arguments": _arguments(call)} for call in wanted
        ],
        "text": text,
    }


def _arguments(call: messages.ToolCallPart) -> Any:
    """The call's arguments; text that is not JSON stays text, for the caller to refuse with its faults."""
    if isinstance(call.args, str) and call.args.strip():
        return _json_or_text(call.args)
    return call.args if isinstance(call.args, dict) else {}


def _json_or_text(text: str) -> Any:
    body = text.strip()
    if body.startswith("```") and body.endswith("```"):
        body = body[3:-3].removeprefix("json")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return text
