"""The one outbound client: it cannot be talked into calling an address inside (http_guard.py)."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from django.conf import settings

from agentsys.core.errors import (
    AddressDenied,
    AgentSysError,
    OutcomeUnknown,
    ToolFailed,
    ToolRateLimited,
    ToolUnavailable,
)
from agentsys.core.http_body import Response, read_body
from agentsys.core.http_guard import GuardedTransport, check_url
from agentsys.core.http_headers import checked_headers, headers_elsewhere, retry_after_s

__all__ = ["MAX_REDIRECTS", "Response", "client", "request", "shared_client"]

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
USER_AGENT = "agentsys"
#: Sent again without harm.  For all else a lost answer means that nobody knows what happened.
_REPEATABLE = ("GET", "HEAD")
_REDIRECTS = (301, 302, 303, 307, 308)


def client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client behind the guard, without cookies, proxies of the environment or redirects of its own.

    It belongs to the event loop it is used on.
    """
    return httpx.AsyncClient(
        transport=transport or GuardedTransport(),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate", "Connection": "close"},
    )


_shared: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None


def shared_client() -> httpx.AsyncClient:
    """The running loop's client.  It holds no connections, so nothing is lost with its loop or by a fork."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = (loop, client())
    return _shared[1]


@dataclass(frozen=True, slots=True)
class _Hop:
    method: str
    url: httpx.URL
    headers: dict[str, str]
    content: bytes | None


async def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str | int | float | bool] | None = None,
    content: bytes | None = None,
    allow_errors: bool = False,
    timeout_s: float = 60.0,
    max_bytes: int | None = None,
) -> Response:
    """One exchange with the outside, redirects included.

    Args:
        allow_errors: Return answers of status 400 and above instead of raising.
        max_bytes: Bound of the body, unpacked; settings.MAX_OUTPUT_BYTES by default.

    Raises:
        AddressDenied: the address, or one that it leads to, may not be called.
        ToolUnavailable: no connection, no answer (GET), status 429 or 5xx.  In its data ``retry_after_s``
            where the server named a time, and ``sent=False`` where nothing can have happened.
        OutcomeUnknown: a POST, PUT… was sent and no answer came.
        ToolFailed: status 4xx, a malformed request or answer, too many redirects.
        ToolOutputTooLarge: the body is larger than ``max_bytes``.
    """
    hop = _Hop(method.upper(), _parse(url, query), checked_headers(headers or {}), content)
    try:
        async with asyncio.timeout(timeout_s):
            response = await _follow(hop, max_bytes or settings.MAX_OUTPUT_BYTES)
    except TimeoutError:
        raise _unanswered(hop, f"did not answer within {timeout_s:g} s") from None
    if response.status >= 400 and not allow_errors:
        raise _refused(hop, response)
    return response


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port that a request for this address goes to.

    Raises:
        AddressDenied: it is no address that may be called.
        ToolFailed: it is no address.
    """
    parsed = _parse(url, None)
    return (parsed.scheme, *check_url(parsed))


def _parse(url: str, query: Mapping[str, str | int | float | bool] | None) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip())
        return parsed.copy_merge_params(dict(query)) if query else parsed
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ToolFailed(f"This is not a web address: {error}"[:300]) from None


async def _follow(hop: _Hop, max_bytes: int) -> Response:
    for _ in range(MAX_REDIRECTS + 1):
        response = await _exchange(hop, max_bytes)
        if response.status not in _REDIRECTS or "location" not in response.headers:
            return response
        hop = _next(hop, response)
    raise ToolFailed(f"{_shown(hop.url)} was redirected more than {MAX_REDIRECTS} times.")


async def _exchange(hop: _Hop, max_bytes: int) -> Response:
    sent = shared_client().build_request(hop.method, hop.url, headers=hop.headers, content=hop.content)
    try:
        response = await shared_client().send(sent, stream=True)
        try:
            return await read_body(response, max_bytes)
        finally:
            await response.aclose()
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _not_connected(hop, error) from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
        raise ToolFailed(f"The request cannot be sent: {error}"[:300]) from error
    except httpx.TransportError as error:
        raise _unanswered(hop, f"broke off ({type(error).__name__})") from error


def _next(hop: _Hop, response: Response) -> _Hop:
    """Where a redirect leads.  Data is sent to no other address than the one it was meant for."""
    if hop.method not in _REPEATABLE and response.status != 303:
        raise ToolFailed(f"{_shown(hop.url)} redirects the data; send it to the new address.", status=response.status)
    try:
        target = hop.url.join(response.headers["location"])
    except (httpx.InvalidURL, UnicodeError):
        raise ToolFailed(f"{_shown(hop.url)} redirects to what is not an address.") from None
    if hop.url.scheme == "https" and target.scheme == "http":
        raise AddressDenied(f"{_shown(hop.url)} redirects from https to http.")
    elsewhere = (target.scheme, target.host, target.port) != (hop.url.scheme, hop.url.host, hop.url.port)
    headers = headers_elsewhere(hop.headers) if elsewhere else hop.headers
    method = "HEAD" if hop.method == "HEAD" else "GET"
    return replace(hop, method=method, url=target, headers=headers, content=None)


def _not_connected(hop: _Hop, error: Exception) -> AgentSysError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ToolFailed(f"{_shown(hop.url)} has no valid certificate: {cause.verify_message}.")
        cause = cause.__cause__ or cause.__context__
    return ToolUnavailable(f"{_shown(hop.url)} cannot be reached.", sent=False)


def _unanswered(hop: _Hop, what: str) -> AgentSysError:
    if hop.method in _REPEATABLE:
        return ToolUnavailable(f"{_shown(hop.url)} {what}.")
    return OutcomeUnknown(f"{_shown(hop.url)} {what}; the {hop.method} may have taken effect.")


def _refused(hop: _Hop, response: Response) -> AgentSysError:
    message = f"{_shown(hop.url)} answered {response.status}."
    data: dict[str, Any] = {"status": response.status, "body": (response.text() or "")[:500]}
    wait_s = retry_after_s(response.headers.get("retry-after", ""))
    if wait_s is not None:
        data["retry_after_s"] = wait_s
    # A 5xx answer to a POST does not say that nothing happened; 429, and 503 with a time, do.
    if response.status == 429:
        return ToolRateLimited(message, **data, sent=False)
    if response.status == 503 and wait_s is not None:
        return ToolUnavailable(message, **data, sent=False)
    if response.status >= 500 and hop.method in _REPEATABLE:
        return ToolUnavailable(message, **data)
    return ToolFailed(message, **data)


def _shown(url: httpx.URL) -> str:
    """An address for messages, without its query: that is where people put secrets."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))[:300]
