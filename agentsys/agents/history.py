"""What a model has done so far, told so that it stays bounded however much that is.

The last turns are told in full, their outputs cut; of those before, a line a call; of the first of very many, how many
there were.  A call costs so the same tokens in the hundredth turn as in the tenth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from agentsys.llm.types import Called, Turn

#: Of one output, in characters; the tool ``observation.read`` has the rest.
MAX_OUTPUT_CHARS = 4_000
#: Of the turns that are told in full, in characters, but always the last one; and of the lines before them.
MAX_TURNS_CHARS, MAX_LINES_CHARS, MAX_LINE_CHARS = 40_000, 16_000, 200


@dataclass(frozen=True, slots=True)
class Call:
    """A call and what came of it.

    ``output`` is text as it is, anything else (and an error) as JSON, and None where it was too long ago to be read
    again; ``size`` is how many characters it has in all.  ``brief`` is the head of its arguments.
    """

    step: str
    turn: int
    tool: str
    arguments: dict[str, Any]
    ok: bool
    output: str | None
    brief: str = ""
    size: int = 0
    said: str = ""

    def shown(self) -> str:
        """The output as a model sees it: its head, and how to read on."""
        text = self.output or ""
        if self.size <= MAX_OUTPUT_CHARS:
            return text
        how = f'observation.read(step="{self.step}", offset={MAX_OUTPUT_CHARS}) reads on'
        return f"{text[:MAX_OUTPUT_CHARS]}… ({self.size:,} characters in all; {how})"

    def line(self) -> str:
        """All in a line."""
        what = f"turn {self.turn}, {self.step}: {self.tool} {self.brief}"
        return f"{what}: {'done' if self.ok else 'failed'}"[:MAX_LINE_CHARS]


@dataclass(frozen=True, slots=True)
class History:
    """The calls of an acting step, in order."""

    calls: Sequence[Call] = ()

    @property
    def turns(self) -> int:
        return self.calls[-1].turn if self.calls else 0

    def told(self) -> tuple[list[str], tuple[Turn, ...]]:
        """Lines about what is long ago, and the turns since."""
        groups = [[call for call in self.calls if call.turn == n] for n in range(1, self.turns + 1)]
        recent = _that_fit(groups)
        lines = [call.line() for group in groups[: len(groups) - len(recent)] for call in group]
        return _last_lines(lines), tuple(_turn(group) for group in recent)


def _that_fit(groups: list[list[Call]]) -> list[list[Call]]:
    left, found = MAX_TURNS_CHARS, 0
    for group in reversed(groups):
        left -= sum(len(call.shown()) + len(str(call.arguments)) + len(call.said) for call in group)
        if found and (left < 0 or any(call.output is None for call in group)):
            break
        found += 1
    return groups[len(groups) - found :]


def _last_lines(lines: list[str]) -> list[str]:
    left = MAX_LINES_CHARS

    def fits(line: str) -> bool:
        nonlocal left
        left -= len(line)
        return left >= 0

    kept = list(takewhile(fits, reversed(lines)))[::-1]
    gone = len(lines) - len(kept)
    return [f"{gone} calls before these are left out", *kept] if gone else kept


def _turn(calls: Sequence[Call]) -> Turn:
    said = next((call.said for call in calls if call.said), "")
    return Turn(tuple(Called(_id(call), call.tool, call.arguments, call.shown()) for call in calls), said)


def _id(call: Call) -> str:
    """As providers want the id of a call: letters, digits, ``_`` and ``-``."""
    return f"call_{call.turn}_{call.step.rpartition('.')[2]}"
