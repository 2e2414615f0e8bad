"""The transport that lets a request out to checked addresses only.

Every request passes it, so every redirect does: the host is resolved here, each of its addresses is
checked, and the connection goes to a checked address without a second look-up, while Host, SNI and the
certificate keep the name.

One connection a request: a pool would have to remember which check a connection passed, and
httpcore's takes quadratic time over thousands of waiting calls.
"""

import asyncio
import re
import resource
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

from agentsys.core import addresses
from agentsys.core.errors import AddressDenied

MAX_ADDRESSES = 4  # of one name, tried in turn
ELSEWHERE_S = 3.0  # for an address where another is left, such as one of IPv6 that leads nowhere
_PORTS = {"http": 80, "https": 443}
#: A name of letters, digits, - _ and dots, or an IPv6 address without a zone.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]+")


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
            answer.status,
            headers=answer.headers,
            stream=_Body(self, answer, connection),
            extensions=answer.extensions,
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
        host: str,  # noqa: ARG002 - the point of this class
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *others, last = self._checked
        for address in others:
            try:
                return await self._network.connect_tcp(
                    address, port, min(timeout or ELSEWHERE_S, ELSEWHERE_S), local_address, socket_options
                )
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
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path),
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
        AddressDenied: another scheme than http and https, no sensible host or port, or a user name in it.
    """
    if url.scheme not in _PORTS:
        raise AddressDenied("Only http and https addresses may be called.", scheme=url.scheme[:50])
    if url.userinfo:
        raise AddressDenied("An address may not have a user name or password in it; send a header.")
    host = url.raw_host.decode("ascii")
    if not _HOST.fullmatch(host) or not 0 < _port(url) < 65_536:
        raise AddressDenied("The address has no host and port that can be called.")
    return host, _port(url)
