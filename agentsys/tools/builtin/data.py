"""Questions to JSON."""

import json
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import PathFailed, PathInvalid, PayloadTooLarge, ToolFailed, ToolOutputTooLarge
from agentsys.core.paths import MAX_EXPRESSION_CHARS, compile_path
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
    data: Annotated[Any, Field(description="Any JSON value; a text is read as JSON.")],
    expression: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_EXPRESSION_CHARS,
            description="A JMESPath expression, such as items[0].name.",
        ),
    ],
) -> Value:
    """Select from JSON by a JMESPath expression, such as `info.title`, `keys(paths)`, `length(items)`.

    What is not there is null.
    """
    try:
        return Value(value=compile_path(expression).search(_parsed(data)))
    except (PathInvalid, PathFailed) as error:
        raise ToolFailed(error.message, **error.data) from error
    except PayloadTooLarge as error:
        raise ToolOutputTooLarge(error.message) from error


def _parsed(data: Any) -> Any:
    """Text that is JSON as its value: it may come from a file or an answer of another type."""
    if not isinstance(data, str):
        return data
    try:
        return json.loads(data.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ToolFailed("The data is a text that is not JSON.") from error
