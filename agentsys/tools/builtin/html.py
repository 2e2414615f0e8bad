"""What a person would read on a page, and where its links go."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urljoin, urlsplit

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.tools.builtin.markup import Tag, parse, unescape
from agentsys.tools.registry import tool

Html = Annotated[str, Field(max_length=2_000_000, description="The page's HTML.")]
MAX_LINK_TEXT_CHARS = 300
_HIDDEN = frozenset("script style template noscript svg iframe noembed noframes".split())  # noqa: SIM905
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark nobr q ruby rb rt rp s "  # noqa: SIM905
    "samp small span strike strong sub sup time tt u var wbr".split()
)


class Page(TypedDict):
    title: str
    text: str


class Link(TypedDict):
    url: str
    text: str


class Links(TypedDict):
    links: list[Link]
    count: int


@tool(
    name="html.text",
    effect="pure",
    lane="compute",
    timeout_s=20.0,
    result_path="text",
    examples=(
        "extract the text of the page",
        "get the readable text of the HTML",
        "strip the HTML tags",
        "convert the HTML to text",
        "take the title of the page",
    ),
)
def text(html: Html) -> Page:
    """Turn HTML into the plain text that a person would read, a line a block, with the page's title."""
    title: list[str] = []
    body: list[str] = []
    inside_title = False
    for part in _visible(html):
        if isinstance(part, str):
            (title if inside_title else body).append(part)
        elif part.name == "title":
            inside_title = not part.closes
        elif part.name in ("td", "th"):
            body.append(" ")
        elif part.name not in _INLINE:
            body.append("\n")
    return Page(title=_line("".join(title)), text=_lines("".join(body)))


def _visible(html: str) -> Iterator[Tag | str]:
    """The page without what no browser shows."""
    hidden, depth = "", 0
    for part in parse(html):
        if hidden:
            if isinstance(part, Tag) and part.name == hidden:
                depth += -1 if part.closes else 1
                hidden = hidden if depth else ""
        elif isinstance(part, Tag) and part.name in _HIDDEN and not part.closes:
            hidden, depth = part.name, 1
        else:
            # A line's end in the source is a space: lines are made by the blocks.
            yield part.replace("\n", " ").replace("\r", " ") if isinstance(part, str) else part


def _line(text: str) -> str:
    return " ".join(text.split())


def _lines(text: str) -> str:
    return "\n".join(line for line in map(_line, text.split("\n")) if line)


@tool(
    name="html.links",
    effect="pure",
    lane="compute",
    timeout_s=20.0,
    result_path="links",
    examples=(
        "list the links of the page",
        "extract all links from the HTML",
        "collect the links",
        "find the links on the page",
    ),
)
def links(
    html: Html,
    base_url: Annotated[
        str, Field(max_length=4_000, description="The page's own address: makes relative links absolute.")
    ] = "",
    limit: Annotated[int, Field(ge=1, le=10_000, description="At most so many links.")] = 1_000,
) -> Links:
    """List the links of an HTML page, each address once and in order, with the text of the link.

    Only http and https links; give base_url to make relative addresses absolute.
    """
    found: dict[str, str] = {}
    for base, href, label in _anchors(html, base_url):
        url = _absolute(base, href)
        if url:
            found[url] = found.get(url) or label
        if len(found) >= limit:
            break
    return Links(links=[Link(url=url, text=label) for url, label in found.items()], count=len(found))


def _anchors(html: str, base_url: str) -> Iterator[tuple[str, str, str]]:
    """Base, address as written and text of every link; a new link ends an open one, as in a browser."""
    base, href, label = base_url, "", _Label()
    for part in parse(html):
        if isinstance(part, str):
            label.add(part)
        elif part.name == "base" and base == base_url and part.attributes.get("href"):
            base = _join(base_url, unescape(part.attributes["href"]).strip())
        elif part.name in ("a", "area"):
            if href:
                yield base, href, label.text()
            href, label = unescape(part.attributes.get("href", "")).strip(), _Label()
    if href:
        yield base, href, label.text()


class _Label:
    """The first words of a link: a page may never close one."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = 4 * MAX_LINK_TEXT_CHARS

    def add(self, text: str) -> None:
        if self._left > 0:
            self._parts.append(text[: self._left])
            self._left -= len(text)

    def text(self) -> str:
        return _line("".join(self._parts))[:MAX_LINK_TEXT_CHARS]


def _absolute(base: str, href: str) -> str:
    return "" if href.startswith("#") or len(href) > 4_000 else _join(base, href)


def _join(base: str, href: str) -> str:
    """An http or https address, or a relative one where there is no base; "" for any other."""
    try:
        url = urljoin(base, href)
        return url if urlsplit(url).scheme in ("http", "https", "") else ""
    except ValueError:  # such as http://[half-an-address
        return ""
