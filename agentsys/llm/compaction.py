"""A request made shorter, for a model that could not read all of it.

Cut is what grows: sections of the prompt, turns long ago, what calls have given.  What the model is (system, tools)
and the shape of its answer stay.
"""

from dataclasses import replace

from agentsys.llm.types import ModelRequest, Turn

#: Of one section of a prompt, and of one call's output, in characters.
SECTION_CHARS, OUTPUT_CHARS = 8_000, 1_000
#: Of the turns, the last.
TURNS = 8
_HEAD = "\n\n# "


def compacted(request: ModelRequest) -> ModelRequest:
    """At most ``SECTION_CHARS`` of each section and the last ``TURNS`` turns, their outputs cut; says what is gone."""
    gone = len(request.turns) - TURNS
    prompt = _HEAD.join(_cut(section, SECTION_CHARS) for section in request.prompt.split(_HEAD))
    if gone > 0:
        prompt += f"\n\n(The first {gone} turns are left out.)"
    return replace(request, prompt=prompt, turns=tuple(map(_shorter, request.turns[-TURNS:])))


def _shorter(turn: Turn) -> Turn:
    calls = tuple(replace(call, output=_cut(call.output, OUTPUT_CHARS)) for call in turn.calls)
    return Turn(calls, _cut(turn.text, OUTPUT_CHARS))


def _cut(text: str, chars: int) -> str:
    """Its beginning and its end: what is asked often stands last."""
    left_out = len(text) - chars
    if left_out <= 0:
        return text
    half = chars // 2
    return f"{text[:half]}\n… ({left_out:,} characters left out) …\n{text[-half:]}"
