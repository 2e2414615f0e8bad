"""What a model that acts has been shown the head of, read on."""

import json
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool


class Part(TypedDict):
    text: str
    size: int  # characters in all
    next_offset: int | None


@tool(name="observation.read", effect="pure", lane="compute", timeout_s=10.0)
def read(
    step: Annotated[str, Field(min_length=1, max_length=72, description="The key of the call.")],
    ctx: ToolContext,
    offset: Annotated[int, Field(ge=0, le=10**9, description="Where to begin, in characters.")] = 0,
    length: Annotated[int, Field(ge=1, le=4_000, description="How many characters.")] = 3_500,
) -> Part:
    """Read on in the long output of a call that was made before."""
    value = ctx.output_of(step)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)  # as it was shown
    end = offset + length
    return {"text": text[offset:end], "size": len(text), "next_offset": end if end < len(text) else None}
