"""Python that anybody may have written, in a sandbox process without files, network or clock tricks."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool


class Ran(TypedDict):
    value: Any
    stdout: str


@tool(
    name="python.run",
    effect="pure",
    lane="compute",
    timeout_s=30.0,
    result_path="value",
    examples=(
        "run the Python code 'sum(range(10))'",
        "execute the Python 'print(1)'",
        "run Python: sorted([3, 1, 2])",
        "evaluate the Python expression 'len(\"abc\")'",
    ),
)
def run(
    code: Annotated[str, Field(min_length=1, max_length=50_000, description="Python source.")],
    ctx: ToolContext,
    inputs: Annotated[
        dict[str, Any], Field(max_length=100, description="Values the code sees as variables of these names.")
    ] = {},
    max_seconds: Annotated[float, Field(gt=0, le=20, description="Time limit of the code, in seconds.")] = 5.0,
    max_memory_mb: Annotated[int, Field(ge=1, le=256, description="Memory limit of the code, in MB.")] = 64,
) -> Ran:
    """Run Python code in a sandbox without files, network or installed packages.

    The result's `value` is the last expression of the code, or else its variable `result`; `stdout` is
    what it printed.  Values in `inputs` are variables of the code.  Part of the standard library is there
    (math, json, re, datetime, collections, itertools, statistics…); classes and functions work.
    """
    raise ToolFailed("not yet")
