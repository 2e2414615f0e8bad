"""What a text is about: extractive, deterministic, without a model."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin.types import Text
from agentsys.tools.registry import tool


class Summary(TypedDict):
    summary: str
    sentences: list[str]


@tool(
    name="text.summarize",
    effect="pure",
    lane="compute",
    timeout_s=15.0,
    result_path="summary",
    examples=(
        "summarize the text",
        "summarize it in 3 sentences",
        "give a summary of the page",
        "shorten the text to 2 sentences",
    ),
)
def summarize(
    text: Text,
    sentences: Annotated[int, Field(ge=1, le=100, description="How many sentences to keep.")] = 3,
) -> Summary:
    """Summarize a text by its most telling sentences, word for word and in their order."""
    raise ToolFailed("not yet")


class Term(TypedDict):
    term: str
    count: int


class Terms(TypedDict):
    terms: list[Term]


@tool(
    name="text.top_terms",
    effect="pure",
    lane="compute",
    timeout_s=10.0,
    result_path="terms",
    examples=(
        "find the 10 most frequent words",
        "list the top 5 terms of the text",
        "what are the most common words in it",
        "find the keywords of the text",
    ),
)
def top_terms(
    text: Text,
    n: Annotated[int, Field(ge=1, le=1_000, description="How many terms.")] = 10,
) -> Terms:
    """List the most frequent words of a text with their counts, common words such as "the" left out."""
    raise ToolFailed("not yet")
