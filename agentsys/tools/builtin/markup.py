"""HTML as a stream of tags and texts, in time linear in the page whatever it holds.

No tree is built: every tree builder that follows the standard takes quadratic time over nested
elements, and one that repairs formatting elements can make gigabytes of a megabyte (a thousand
different <b> and then a hundred thousand <p>).  Words and links need no tree.
"""

import html
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-zA-Z][^\s/>]*+")
#: The next attribute or the tag's end; what belongs to neither, such as a lone =, is passed over.
_INSIDE = re.compile(
    r"[\s/=]*+(?:(?P<end>>)|(?P<name>[^\s/>=]++)"
    r"(?:\s*+=\s*+(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)'|(?P<bare>[^\s>]++)))?+)"
)
#: html.unescape makes a number of all the digits there are, and Python refuses 4,301 of them.
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{8,}+;?")
#: Their content is text up to their own end tag.
_RAW = ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW}


@dataclass(frozen=True, slots=True)
class Tag:
    """``<name …>`` or ``</name>``; names are lower case, the first of equal attributes counts."""

    name: str
    closes: bool = False
    attributes: dict[str, str] = field(default_factory=dict)


def parse(source: str) -> Iterator[Tag | str]:
    """Tags and texts in their order; comments are left out, an unfinished tag ends the page."""
    at = 0
    while at < len(source):
        opening = source.find("<", at)
        if opening < 0:
            opening = len(source)
        if opening > at:
            yield unescape(source[at:opening])
        at = yield from _markup(source, opening)


def _markup(source: str, at: int) -> Generator[Tag | str, None, int]:
    """What begins with the < at this place.  Returns where it ends."""
    following = source[at + 1 : at + 2]
    if following == "/":
        name, at = _end_tag(source, at + 2)
        if name:
            yield Tag(name, closes=True)
    elif following in ("!", "?") and following:
        at = _after_comment(source, at)
    elif _NAME.match(source, at + 1):
        at = yield from _element(source, at + 1)
    else:
        yield source[at : at + 1]
        at += 1
    return at


def _element(source: str, at: int) -> Generator[Tag | str, None, int]:
    """A start tag, with all that is inside where that is only text."""
    tag, at = _start_tag(source, at)
    if tag is None:
        return at
    yield tag
    if tag.name in _RAW:
        text, at = _raw(source, at, tag.name)
        yield text
        yield Tag(tag.name, closes=True)
    return at


def unescape(text: str) -> str:
    """With ``&amp;`` and its like replaced."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text


def _start_tag(source: str, at: int) -> tuple[Tag | None, int]:
    """The tag whose name begins here, None when it never ends."""
    name = _NAME.match(source, at)
    assert name is not None  # the caller has seen it
    attributes: dict[str, str] = {}
    found = _INSIDE.match(source, name.end())
    while found and not found["end"]:
        value = found["double"] or found["single"] or found["bare"] or ""
        attributes.setdefault(found["name"].lower(), value)
        found = _INSIDE.match(source, found.end())
    return (Tag(name[0].lower(), attributes=attributes), found.end()) if found else (None, len(source))


def _end_tag(source: str, at: int) -> tuple[str, int]:
    name = _NAME.match(source, at)
    return (name[0].lower() if name else ""), _after(source, ">", at)


def _after_comment(source: str, at: int) -> int:
    if source.startswith("<!--", at):
        return _after(source, "-->", at + 2)  # <!--> is a whole comment
    return _after(source, ">", at)


def _after(source: str, mark: str, at: int) -> int:
    found = source.find(mark, at)
    return len(source) if found < 0 else found + len(mark)


def _raw(source: str, at: int, name: str) -> tuple[str, int]:
    end = _RAW_END[name].search(source, at)
    text = source[at : end.start() if end else len(source)]
    after = _after(source, ">", end.start()) if end else len(source)
    return (unescape(text) if name in ("title", "textarea") else text), after
