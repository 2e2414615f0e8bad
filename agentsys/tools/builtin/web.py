"""A search of the web, by the SearXNG that an operator has named."""

import json
from typing import Annotated, Any

from django.conf import settings
from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core import http
from agentsys.core.errors import NotConfigured, ToolFailed
from agentsys.tools.registry import tool

MAX_TITLE_CHARS, MAX_URL_CHARS, MAX_TEXT_CHARS = 500, 4_000, 2_000
MAX_ANSWER_BYTES = 5_000_000
TIMEOUT_S = 50.0


class Hit(TypedDict):
    title: str
    url: str
    text: str


class Hits(TypedDict):
    query: str
    results: list[Hit]


@tool(name="web.search", effect="pure", lane="network", timeout_s=60.0, result_path="results", source="web")
async def search(
    query: Annotated[str, Field(min_length=1, max_length=500, description="What to look for.")],
    max_results: Annotated[int, Field(ge=1, le=50, description="How many results are given back.")] = 10,
    language: Annotated[
        str | None,
        Field(pattern=r"^[a-z]{2,3}(-[A-Za-z]{2,4})?$", description="Such as en or de-CH; any unless given."),
    ] = None,
    page: Annotated[int, Field(ge=1, le=20, description="1 for the best results, 2 for those after them.")] = 1,
) -> Hits:
    """Search the web: titles, addresses and a few lines of pages; fetch a page to read it."""
    if not settings.SEARCH_URL:
        raise NotConfigured(
            "Searching the web is not set up here: an operator sets AGENTSYS_SEARCH_URL.", tool="web.search"
        )
    asked: dict[str, str | int | float | bool] = {"q": query, "format": "json", "pageno": page}
    response = await _asked(asked | ({"language": language} if language else {}))
    return Hits(query=query, results=_hits(response)[:max_results])


async def _asked(query: dict[str, str | int | float | bool]) -> http.Response:
    url = f"{settings.SEARCH_URL.rstrip('/')}/search"
    headers = {"Accept": "application/json"}
    try:
        return await http.request(
            "GET", url, query=query, headers=headers, max_bytes=MAX_ANSWER_BYTES, timeout_s=TIMEOUT_S
        )
    except ToolFailed as error:
        if error.data.get("status") in (401, 403):
            told = "The search engine does not let us ask for JSON: its settings need `formats: [html, json]`."
            raise ToolFailed(told, **error.data) from error
        raise


def _hits(response: http.Response) -> list[Hit]:
    try:
        found = json.loads(response.content)["results"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ToolFailed("The search engine's answer is not that of a SearXNG.") from None
    hits = [_hit(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [hit for hit in hits if hit["url"].startswith(("http://", "https://"))]


def _hit(found: dict[str, Any]) -> Hit:
    def text(name: str, most: int) -> str:
        value = found.get(name)
        return value[:most] if isinstance(value, str) else ""

    return Hit(
        title=text("title", MAX_TITLE_CHARS), url=text("url", MAX_URL_CHARS), text=text("content", MAX_TEXT_CHARS)
    )
