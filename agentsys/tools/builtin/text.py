"""Texts counted and cut."""

# ruff: noqa: RUF001  (the typographic marks are meant)

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin import prose
from agentsys.tools.builtin.types import Text
from agentsys.tools.registry import tool

Term = Annotated[str, Field(max_length=200, description="Also count this word or phrase; case is ignored.")]
By = Annotated[
    Literal["lines", "sentences", "paragraphs", "words", "headings", "separator"],
    Field(description="Where to cut; headings are Markdown's and make sections."),
]
Separator = Annotated[str, Field(max_length=100, description="The text to cut at; only for by=separator.")]
_PUNCTUATION = ".,;:!?…\"'“”‘’«»()[]{}<>*_`#|~-–—"


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
def count(text: Text, term: Term = "") -> Counts:
    """Count the words, lines, paragraphs and characters of a text, and how often a term occurs.

    Words are what white space separates; distinct words ignore case and punctuation.  Use it instead
    of counting yourself.
    """
    words = text.split()
    return Counts(
        words=len(words),
        distinct_words=len({word.strip(_PUNCTUATION).casefold() for word in words} - {""}),
        lines=len(prose.lines(text)),
        paragraphs=len(prose.paragraphs(text)),
        characters=len(text),
        term_count=_occurrences(text.casefold(), term.casefold()) if term.strip() else None,
    )


def _occurrences(text: str, term: str) -> int:
    """How often the term stands in the text as whole words."""
    found, at = 0, text.find(term)
    while at >= 0:
        end = at + len(term)
        if _is_edge(text[at - 1 : at], term[0]) and _is_edge(text[end : end + 1], term[-1]):
            found, at = found + 1, text.find(term, end)
        else:
            at = text.find(term, at + 1)
    return found


def _is_edge(outside: str, inside: str) -> bool:
    return not (_is_word(outside) and _is_word(inside))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


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
def split(text: Text, by: By = "paragraphs", separator: Separator = "") -> Parts:
    """Split a text into lines, sentences, paragraphs, words, Markdown sections or at a separator.

    Empty parts are left out.  With by=headings the parts are sections: objects with title, level, text.
    """
    # A separator is what is meant where nothing else was said; by=paragraphs is what was not.
    if separator and by not in ("separator", "paragraphs"):
        raise ToolFailed(f"Cut by={by} or at the separator, not at both; leave one of them out.")
    if by == "headings":
        sections = [Section(title=p.title, level=p.level, text=p.text) for p in prose.sections(text)]
        return Parts(parts=sections, count=len(sections))
    parts = _parts(text, "separator" if separator else by, separator)
    return Parts(parts=parts, count=len(parts))


def _parts(text: str, by: str, separator: str) -> list[str]:
    match by:
        case "lines":
            return [line for line in prose.lines(text) if line.strip()]
        case "words":
            return text.split()
        case "sentences":
            return prose.sentences(text)
        case "paragraphs":
            return prose.paragraphs(text)
    if not separator:
        raise ToolFailed("by=separator needs the separator to cut at.")
    return [part.strip() for part in text.split(separator) if part.strip()]
