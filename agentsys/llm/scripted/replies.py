"""Answers and faults of a model, before they are put into a protocol's words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: How a stream stops in the middle: as if that were its end, with the connection lost, or with an error told in it.
Break = Literal["", "closed", "lost", "error"]
#: What each answer says that it has used.
INPUT_TOKENS, OUTPUT_TOKENS = 11, 7


@dataclass(frozen=True)
class Said:
    """What a model says: texts one after the other, calls, and why it ended."""

    pieces: tuple[str, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()  # name, arguments as written
    reason: str = "stop"  # or tool_calls, length, content_filter
    refusal: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Reply:
    """One HTTP answer.

    ``body`` is what a model says, in the words of the protocol in which it is asked; or JSON, or bytes, as they are.
    ``delay_s`` passes before the first byte; ``breaks`` is how a stream stops in the middle.
    """

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    breaks: Break = ""


def text(content: str, **more: Any) -> Reply:
    """The model says something."""
    return Reply(Said((content,)), **more)


def spoken(*pieces: str, breaks: Break = "", **more: Any) -> Reply:
    """The model says something piece by piece, where it is asked for a stream."""
    return Reply(Said(pieces), breaks=breaks, **more)


def call(name: str, arguments: Any, **more: Any) -> Reply:
    """The model calls a tool; ``arguments`` as a string are sent as they are."""
    return calls([(name, arguments)], **more)


def calls(wanted: Sequence[tuple[str, Any]], content: str | None = None, **more: Any) -> Reply:
    """The model calls several tools at once, and may say something to it."""
    made = tuple((name, _written(arguments)) for name, arguments in wanted)
    return Reply(Said((content,) if content else (), made, "tool_calls"), **more)


def submit(value: Any, **more: Any) -> Reply:
    """The model hands in structured output."""
    return call("submit", value, **more)


def ended(reason: str, content: str = "to be", *, refusal: str = "", **more: Any) -> Reply:
    """The model says something, and this is why it ended."""
    return Reply(Said((content,), reason=reason, refusal=refusal), **more)


def fault(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error, as chat completions and responses write it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def slow(reply: Reply, delay_s: float) -> Reply:
    """The same, later."""
    return replace(reply, delay_s=delay_s)


def _written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
