"""Texts counted, cut and searched."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin.types import Text
from agentsys.tools.registry import tool


class Counts(TypedDict):
    words: int
    distinct_words: int
    lines: int
    paragraphs: int
    characters: int
    term_count: int | None


@tool(
    name="text.count",
    effect="pure",
    lane="compute",
    timeout_s=10.0,
    examples=(
        "count the words in the text",
        "count the lines of the file",
        "count the characters",
        "how many words does it have",
        "count how often 'error' occurs in it",
        "count its words",
    ),
)
def count(
    text: Text,
    term: Annotated[str, Field(max_length=1_000, description="Also count this word or phrase, case ignored.")] = "",
) -> Counts:
    """Count the words, distinct words, lines, paragraphs and characters of a text, and how often a term occurs.

    Use it instead of counting yourself.
    """
    raise ToolFailed("not yet")


class Matches(TypedDict):
    matches: list[str]
    count: int


@tool(
    name="text.extract",
    effect="pure",
    lane="compute",
    timeout_s=15.0,
    result_path="matches",
    examples=(
        "extract the email addresses",
        "extract all URLs from the text",
        "find the numbers in it",
        "extract the dates from the text",
        "find everything that matches the regex 'v[0-9]+'",
    ),
)
def extract(
    text: Text,
    kind: Annotated[
        Literal["emails", "urls", "numbers", "dates", "regex"], Field(description="What to look for.")
    ],
    pattern: Annotated[
        str, Field(max_length=500, description="The regular expression; only for kind regex.")
    ] = "",
    unique: Annotated[bool, Field(description="Each match once.")] = False,
    limit: Annotated[int, Field(ge=1, le=10_000, description="At most so many matches.")] = 1_000,
) -> Matches:
    """Find all email addresses, URLs, numbers, dates (ISO and common forms) or regex matches in a text."""
    raise ToolFailed("not yet")


class Section(TypedDict):
    title: str
    level: int
    text: str


class Parts(TypedDict):
    parts: list[str] | list[Section]
    count: int


@tool(
    name="text.split",
    effect="pure",
    lane="compute",
    timeout_s=10.0,
    result_path="parts",
    examples=(
        "split the README into sections",
        "split the text into lines",
        "split it into sentences",
        "split it into paragraphs",
        "split the text into words",
        "split it by headings",
        "split the text at ','",
    ),
)
def split(
    text: Text,
    by: Annotated[
        Literal["lines", "sentences", "paragraphs", "words", "headings", "separator"],
        Field(description="Where to cut; headings are Markdown's and make sections."),
    ] = "paragraphs",
    separator: Annotated[
        str, Field(max_length=100, description="The text to cut at; only for by=separator.")
    ] = "",
) -> Parts:
    """Split a text into lines, sentences, paragraphs, words, sections (by Markdown headings) or at a separator.

    Empty parts are left out.  Sections are objects with title, level and text.
    """
    raise ToolFailed("not yet")
