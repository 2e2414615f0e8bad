"""What a person would read on a page, and where its links go."""

from typing import Annotated
from urllib.parse import urljoin, urlsplit

from pydantic import Field
from selectolax.lexbor import LexborHTMLParser, LexborNode
from typing_extensions import TypedDict

from agentsys.tools.registry import tool

Html = Annotated[str, Field(max_length=2_000_000, description="The page's HTML.")]
_HIDDEN = ["script", "style", "noscript", "template", "svg", "head", "iframe", "object"]
_BLOCKS = (
    "address, article, aside, blockquote, br, dd, div, dl, dt, fieldset, figcaption, figure, footer, form, "
    "h1, h2, h3, h4, h5, h6, header, hr, li, main, nav, ol, p, pre, section, table, tr, ul"
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
    tree = LexborHTMLParser(html)
    title = tree.css_first("title")
    heading = title.text(strip=True) if title else ""
    tree.strip_tags(_HIDDEN, recursive=True)
    for node in tree.css(_BLOCKS):
        node.insert_after("\n")
    body = tree.body
    return Page(title=" ".join(heading.split()), text=_lines(body.text() if body else ""))


def _lines(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


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
    tree = LexborHTMLParser(html)
    base = _base(tree, base_url)
    found: dict[str, str] = {}
    for node in tree.css("a[href], area[href]"):
        url = _absolute(base, node)
        if url and len(found) < limit:
            found.setdefault(url, " ".join(node.text().split())[:500])
    return Links(links=[Link(url=url, text=text) for url, text in found.items()], count=len(found))


def _base(tree: LexborHTMLParser, base_url: str) -> str:
    element = tree.css_first("base[href]")
    return _join(base_url, element.attributes.get("href") or "") if element else base_url


def _absolute(base: str, node: LexborNode) -> str:
    href = (node.attributes.get("href") or "").strip()
    if not href or href.startswith("#"):
        return ""
    return _join(base, href)


def _join(base: str, href: str) -> str:
    try:
        url = urljoin(base, href)
        return url if urlsplit(url).scheme in ("http", "https", "") else ""
    except ValueError:  # such as http://[half-an-address
        return ""
