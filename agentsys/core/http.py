"""The one outbound client: it cannot be talked into calling an address inside.

The guard is the transport, so every request and every redirect passes it: a host is resolved here,
each of its addresses is checked, and the connection goes to a checked address without a second
look-up, while Host, SNI and the certificate keep the name.

One connection a request: a pool would have to remember which check a connection passed, and
httpcore's takes quadratic time over thousands of waiting calls.
"""

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx
from django.conf import settings

from agentsys.core import addresses
from agentsys.core.errors import AddressDenied, AgentSysError, OutcomeUnknown, ToolFailed, ToolUnavailable
from agentsys.core.http_body import Response, read_body
from agentsys.core.http_headers import checked_headers, headers_elsewhere, retry_after_s

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
MAX_ADDRESSES = 4  # of one name, tried in turn
USER_AGENT = "agentsys"
#: Sent again without harm.  For all else a lost answer means that nobody knows what happened.
_REPEATABLE = ("GET", "HEAD")
_PORTS = {"http": 80, "https": 443}


class GuardedTransport(httpx.AsyncBaseTransport):
    """Lets a request out only to checked addresses; raises AddressDenied otherwise.

    Args:
        tls: Its certificates are the trusted ones; by default those of certifi or of SSL_CERT_FILE.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or httpx.create_ssl_context()
        self._places = asyncio.Semaphore(_most_connections())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = check_url(request.url)
        pinned = _Pinned(await addresses.resolve(host, port))
        origin = httpcore.Origin(request.url.raw_scheme, request.url.raw_host, port)
        connection = httpcore.AsyncHTTPConnection(origin, self._tls, network_backend=pinned)
        await self._places.acquire()
        try:
            answer = await _send(connection, request)
        except BaseException:
            await self._close(connection)
            raise
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(self, answer, connection), extensions=answer.extensions
        )

    async def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        try:
            await connection.aclose()
        finally:
            self._places.release()


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses, whatever name it is given."""

    def __init__(self, checked: list[str]) -> None:
        self._checked = checked[:MAX_ADDRESSES]
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *others, last = self._checked
        for address in others:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(last, port, timeout, local_address, socket_options)


class _Body(httpx.AsyncByteStream):
    """A response's body; closing it closes its connection and gives its place back."""

    def __init__(
        self, transport: GuardedTransport, answer: httpcore.Response, connection: httpcore.AsyncHTTPConnection
    ) -> None:
        self._transport, self._answer, self._connection = transport, answer, connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for chunk in self._answer.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._transport._close(self._connection)


async def _send(connection: httpcore.AsyncHTTPConnection, request: httpx.Request) -> httpcore.Response:
    url = request.url
    with _httpx_errors():
        return await connection.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """httpcore's errors by their names in httpx: callers know only the latter."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def _most_connections() -> int:
    """Three quarters of the files this process may open: the rest is for the database and the pools."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100_000 if soft == resource.RLIM_INFINITY else max(64, soft * 3 // 4)


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else _PORTS[url.scheme]


def check_url(url: httpx.URL) -> tuple[str, int]:
    """Host, as ASCII, and port of an address that may be looked up.

    Raises:
        AddressDenied: another scheme than http and https, no host, or a user name in it.
    """
    if url.scheme not in _PORTS:
        raise AddressDenied("Only http and https addresses may be called.", scheme=url.scheme[:50])
    if url.userinfo:
        raise AddressDenied("An address may not have a user name or password in it; send a header.")
    host = url.raw_host.decode("ascii")
    if not host or _port(url) == 0:
        raise AddressDenied("The address has no host and port to call.")
    return host, _port(url)


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
        ToolUnavailable: no connection, no answer (GET), status 429 or 5xx; ``retry_after_s`` in its data
            where the server named a time.
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


def _parse(url: str, query: Mapping[str, str | int | float | bool] | None) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip())
        return parsed.copy_merge_params(dict(query)) if query else parsed
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ToolFailed(f"This is not a web address: {error}"[:300]) from None


async def _follow(hop: _Hop, max_bytes: int) -> Response:
    for _ in range(MAX_REDIRECTS + 1):
        response = await _exchange(hop, max_bytes)
        if response.status not in (301, 302, 303, 307, 308) or "location" not in response.headers:
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
    return ToolUnavailable(f"{_shown(hop.url)} cannot be reached.")


def _unanswered(hop: _Hop, what: str) -> AgentSysError:
    if hop.method in _REPEATABLE:
        return ToolUnavailable(f"{_shown(hop.url)} {what}.")
    return OutcomeUnknown(f"{_shown(hop.url)} {what}; the {hop.method} may have taken effect.")


def _refused(hop: _Hop, response: Response) -> AgentSysError:
    message = f"{_shown(hop.url)} answered {response.status}."
    data = {"status": response.status, "body": (response.text() or "")[:500]}
    wait_s = retry_after_s(response.headers.get("retry-after", ""))
    if wait_s is not None:
        data["retry_after_s"] = wait_s
    # A 5xx answer to a POST does not say that nothing happened; 429, and 503 with a time, do.
    come_back = response.status == 429 or (response.status == 503 and wait_s is not None)
    if come_back or (response.status >= 500 and hop.method in _REPEATABLE):
        return ToolUnavailable(message, **data)
    return ToolFailed(message, **data)


def _shown(url: httpx.URL) -> str:
    """An address for messages, without its query: that is where people put secrets."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))[:300]
