"""Questions to JSON."""

from typing import Annotated, Any

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.registry import tool


class Value(TypedDict):
    value: Any


@tool(
    name="json.query",
    effect="pure",
    lane="compute",
    timeout_s=10.0,
    result_path="value",
    examples=(
        "query the JSON for info.title",
        "select paths from the JSON",
        "take the keys of paths",
        "get the field info.version of the JSON",
        "count the items with length(items)",
        "evaluate the JMESPath keys(paths)",
    ),
)
def query(
    data: Annotated[Any, Field(description="Any JSON value; a string is read as JSON text.")],
    expression: Annotated[
        str, Field(min_length=1, max_length=2_000, description="A JMESPath expression, such as items[0].name.")
    ],
) -> Value:
    """Select from JSON with a JMESPath expression, such as `info.title`, `keys(paths)` or `length(items)`."""
    try:
        return Value(value=jmespath.search(expression, data))
    except JMESPathError as error:
        raise ToolFailed(f"The expression does not work: {error}"[:500]) from error
