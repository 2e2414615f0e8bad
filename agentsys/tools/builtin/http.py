"""Calls to the outside world, by way of the one guarded client."""

import base64
import json
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core import http
from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin.types import Url
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool

Headers = Annotated[dict[str, str] | None, Field(max_length=50, description="Request headers, name to value.")]
Query = Annotated[
    dict[str, str | int | float | bool] | None,
    Field(max_length=100, description="Added to the address as ?name=value, encoded for you."),
]
AllowErrors = Annotated[
    bool, Field(description="Return an answer of status 400 or above as a result; otherwise the step fails.")
]


#: The step's deadline comes first, which the runner watches.
NO_LIMIT_S = 86_400.0


class Answer(TypedDict, total=False):
    """``json`` when the content is JSON, ``base64`` when it is not text, otherwise ``text``."""

    url: str
    status: int
    headers: dict[str, str]
    content_type: str
    text: str
    json: Any
    base64: str


@tool(
    name="http.get",
    effect="pure",  # GET is safe (RFC 9110): it may be repeated without a key, though answers may differ
    lane="network",
    timeout_s=60.0,
    result_path="text || json",
    address="url",
    source="web",
    examples=(
        "fetch http://example.com/page",
        "download https://example.com/data.json",
        "get the page at https://example.com/",
        "load the address https://example.com/a",
        "read https://example.com/",
        "open https://example.com/",
        "request https://example.com/api",
    ),
)
async def get(url: Url, headers: Headers = None, query: Query = None, allow_errors: AllowErrors = False) -> Answer:
    """Fetch a web address with HTTP GET.

    Redirects are followed.  A JSON answer comes parsed in `json`, any other text in `text`, other
    content in `base64`.  A status of 400 or above fails the step unless `allow_errors` is true.
    """
    response = await http.request(
        "GET", url, headers=headers, query=query, allow_errors=allow_errors, timeout_s=NO_LIMIT_S
    )
    return _answer(response)


@tool(
    name="http.post",
    effect="unsafe",  # the key is sent, but whether a server honours it we cannot know
    lane="network",
    timeout_s=60.0,
    result_path="text || json",
    address="url",
    source="web",
    examples=(
        "post the result to https://example.com/hook",
        "send it to https://example.com/api",
        "submit the JSON to https://example.com/api",
        "notify https://example.com/hook",
    ),
)
async def post(
    url: Url,
    ctx: ToolContext,
    body: Annotated[Any, Field(description="Sent as JSON; a string is sent as text.")] = None,
    headers: Headers = None,
    query: Query = None,
    allow_errors: AllowErrors = False,
) -> Answer:
    """Send data to a web address with HTTP POST: an object or list as JSON, a string as plain text.

    All tries of this step carry the same Idempotency-Key header.  Redirects are not followed for the
    data: only 303 leads to a GET of the new address.  The answer looks like that of http.get.
    """
    kind, content = _content(body)
    sent = {"Content-Type": kind, **_without_key(headers or {}), "Idempotency-Key": ctx.idempotency_key}
    response = await http.request("POST", url, headers=sent, query=query, content=content, allow_errors=allow_errors)
    return _answer(response)


def _without_key(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "idempotency-key"}


def _content(body: Any) -> tuple[str, bytes]:
    if isinstance(body, str):
        return "text/plain; charset=utf-8", body.encode("utf-8", "replace")
    return "application/json", json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _answer(response: http.Response) -> Answer:
    answer = Answer(
        url=response.url,
        status=response.status,
        headers=response.headers,
        content_type=response.content_type,
    )
    if response.is_json:
        try:
            answer["json"] = json.loads(response.content) if response.content.strip() else None
        except (ValueError, RecursionError) as error:
            raise ToolFailed("The answer says it is JSON and is not.", url=response.url) from error
    elif (text := response.text()) is not None:
        answer["text"] = text
    else:
        answer["base64"] = base64.b64encode(response.content).decode("ascii")
    return answer
