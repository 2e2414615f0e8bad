"""A question to a model in parts, so that what one has in common with the one before is kept once.

A part is an object with one key.  Text is cut at ends of lines, from its beginning on: a text that has grown at its
end differs from what it was in its last parts only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agentsys.llm.types import ModelRequest

#: A part of a text ends with the first line's end after so many characters, or after the most.
CHARS, MOST_CHARS = 1_000, 8_000
_TOOL = ("name", "description", "parameters")


def parts_of(request: ModelRequest) -> list[dict[str, Any]]:
    """What the provider reads, and what it does not but decides about the answer, in the order in which it grows."""
    tools = request.tools if request.purpose == "act" else ()
    return [
        {"purpose": request.purpose},
        {"system": request.system},
        {"output_schema": request.output_schema},
        *({"tool": [tool.name, tool.description, tool.parameters]} for tool in tools),
        *({"prompt": text} for text in _cut(request.prompt)),
        *({"turn": asdict(turn)} for turn in request.turns),
        *([{"note": request.note}] if request.note else []),
    ]


def assembled(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``{purpose, system, output_schema, tools, prompt, turns, note}`` for people."""
    found: dict[str, list[Any]] = {}
    for part in parts:
        for name, value in part.items():
            found.setdefault(name, []).append(value)
    return {
        "purpose": _first(found, "purpose"),
        "system": _first(found, "system"),
        "output_schema": _first(found, "output_schema"),
        "tools": [
            dict(zip(("name", "description", "parameters"), tool, strict=True)) for tool in found.get("tool", [])
        ],
        "prompt": "".join(found.get("prompt", [])),
        "turns": found.get("turn", []),
        "note": _first(found, "note") or "",
    }


def _first(found: Mapping[str, list[Any]], name: str) -> Any:
    return next(iter(found.get(name, [])), None)


def _cut(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + CHARS, start + MOST_CHARS) + 1 or start + MOST_CHARS
        yield text[start:end]
        start = end
