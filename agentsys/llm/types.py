"""What goes through the one door to a model, and what comes back.

Plain data: no provider's types, nothing of Django.  Everything in ``context``, ``tools`` and
``output_schema`` is JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal

Purpose = Literal["plan", "act", "answer"]


@dataclass(frozen=True, slots=True)
class ToolDef:
    """A tool as a model sees it.

    ``parameters`` and ``output_schema`` are JSON Schemas; ``examples`` are short imperative
    phrases ("fetch https://example.com") that show when to use it; ``result_path`` is the JMESPath of
    what a sentence means by "it" when it speaks of the tool's output ("" = all of it).  A ``careful`` tool does
    what cannot be taken back or repeated: it is called only where the sentence uses its own words.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    examples: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    result_path: str = ""
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """A call that a model has asked for, and what came of it: text as it is, else JSON, cut where it is long."""

    id: str
    tool: str
    arguments: dict[str, Any]
    output: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a model that acts: what it said, and what it called, all at once."""

    calls: tuple[Called, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model.

    ``system`` and ``prompt`` are what a language model reads.  ``context`` holds the same facts as data,
    for the offline model; see ``offline.respond`` for the keys that each purpose reads.
    ``output_schema`` asks for JSON of that shape; without it the output is text.  ``max_output_tokens`` is what the
    provider may write at most; None: as much as it likes.  ``turns`` are those that a model that acts has taken,
    and ``note`` is what it is told after them.
    """

    purpose: Purpose
    system: str
    prompt: str
    tools: tuple[ToolDef, ...] = ()
    output_schema: dict[str, Any] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    max_output_tokens: int | None = None
    turns: tuple[Turn, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """What one model call may use at most: dollars for its whole input, and for each token of its output."""

    input_tokens: int
    max_output_tokens: int
    input_usd: Decimal = Decimal(0)
    output_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one or more model calls used; addable."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    model_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
            self.model_calls + other.model_calls,
        )

    def as_data(self) -> dict[str, Any]:
        """For an error's data; :meth:`of_data` reads it back."""
        return {**asdict(self), "cost_usd": str(self.cost_usd)}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> "Usage":
        return cls(**{**data, "cost_usd": Decimal(data["cost_usd"])})


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """A model's answer.

    ``output`` by purpose: ``plan`` a plan (CONTRACT.md's grammar), ``act`` either
    ``{"calls": [{"tool": name, "arguments": {…}}, …], "text": …}`` or ``{"result": …}``, ``answer`` any JSON.
    ``priced_by`` is where its cost comes from; empty: nobody knows what it costs.
    """

    output: Any
    usage: Usage
    model: str
    priced_by: str = ""
