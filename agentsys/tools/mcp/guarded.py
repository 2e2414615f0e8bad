"""The MCP library's HTTP through our guard: checked addresses, bounded answers, a failure that ends one request only.

The library ends a whole session when a request of it raises, and knows nothing of an answer's status.  So what goes
wrong here is told to it as JSON-RPC errors with codes of our own, which ``calls.py`` reads.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
from django.conf import settings

from agentsys.core.errors import AddressDenied
from agentsys.core.http import CONNECT_TIMEOUT_S, USER_AGENT
from agentsys.core.http_guard import GuardedTransport
from agentsys.core.http_headers import retry_after_s
from agentsys.tools.mcp.keeper import BURST_S, LINES_A_SECOND, TOO_LARGE

NOT_SENT, LOST, DENIED, STATUS = -32090, -32091, -32093, -32094
#: Of them it is known that the server has not acted.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_DROPPED = ("accept-encoding", "connection", "host", "content-length", "transfer-encoding", "user-agent")


def most_bytes() -> int:
    """Of one message: a listing or a result, before it is looked at."""
    return max(4_000_000, 2 * settings.MAX_OUTPUT_BYTES)


def client(headers: dict[str, str]) -> httpx2.AsyncClient:
    """A client of the running loop that sends these headers; the library keeps to the server's origin."""
    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
    return httpx2.AsyncClient(transport=Guarded(), headers=headers, timeout=timeout, trust_env=False)


class Guarded(httpx2.AsyncBaseTransport):
    """Lets a request out only to checked addresses, and back in only so much."""

    def __init__(self) -> None:
        self._inner = GuardedTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = await self._inner.handle_async_request(await _plain(request))
        except AddressDenied as error:
            return _told(request, DENIED, error.message)
        except _UNSENT as error:
            return _told(request, NOT_SENT, f"The server cannot be reached ({type(error).__name__}).")
        except httpx.TransportError as error:
            return _told(request, LOST, f"The server did not answer ({type(error).__name__}).")
        return await _bounded(request, answer)


async def _plain(request: httpx2.Request) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() not in _DROPPED]
    headers += [("User-Agent", USER_AGENT), ("Accept-Encoding", "identity"), ("Connection", "close")]
    extensions = {"timeout": request.extensions.get("timeout", {})}
    return httpx.Request(
        request.method, str(request.url), headers=headers, content=await request.aread(), extensions=extensions
    )


async def _bounded(request: httpx2.Request, answer: httpx.Response) -> httpx2.Response:
    """A stream of events as it comes; all else whole."""
    is_stream = answer.headers.get("content-type", "").lower().startswith("text/event-stream")
    if answer.status_code < 300 and is_stream:
        return httpx2.Response(answer.status_code, headers=_kept(answer), stream=_Events(answer), request=request)
    try:
        body = await _whole(answer)
    except httpx.TransportError as error:
        return _told(request, LOST, f"The answer broke off ({type(error).__name__}).")
    finally:
        await answer.aclose()
    if body is None:
        return _told(request, TOO_LARGE, f"The answer is larger than {most_bytes():,} bytes.")
    if answer.status_code >= 400 and not _is_told(answer, body) and answer.status_code != 404:
        return _told(request, STATUS, f"The server answered {answer.status_code}.", **_status(answer))
    return httpx2.Response(answer.status_code, headers=_kept(answer), content=body, request=request)


async def _whole(answer: httpx.Response) -> bytes | None:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > most_bytes():
            return None
    return bytes(body)


def _kept(answer: httpx.Response) -> list[tuple[str, str]]:
    """Without what speaks of the connection, or of a body that was packed although we asked for it plain."""
    dropped = ("content-length", "transfer-encoding", "connection", "content-encoding", "set-cookie")
    return [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in dropped]


def _is_told(answer: httpx.Response, body: bytes) -> bool:
    """Whether the server says in JSON-RPC what is wrong."""
    if not answer.headers.get("content-type", "").lower().startswith("application/json"):
        return False
    try:
        return isinstance(json.loads(body)["error"]["code"], int)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _status(answer: httpx.Response) -> dict[str, Any]:
    wait_s = retry_after_s(answer.headers.get("retry-after", ""))
    return {"status": answer.status_code} | ({} if wait_s is None else {"retry_after_s": wait_s})


def _told(request: httpx2.Request, code: int, message: str, **data: Any) -> httpx2.Response:
    error = {"code": code, "message": message, "data": data}
    return httpx2.Response(502, json={"jsonrpc": "2.0", "id": None, "error": error}, request=request)


class _Events(httpx2.AsyncByteStream):
    """A stream of events at a bounded pace, and of bounded size."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer, self._until, self._left = answer, 0.0, 4 * most_bytes()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.aiter_raw():
                self._left -= len(chunk)
                if self._left < 0:
                    raise httpx2.ReadError("The stream is too long.")
                yield chunk
                await self._paced(chunk)
        except httpx.TransportError as error:
            raise httpx2.ReadError(str(error)) from error

    async def _paced(self, chunk: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._until = max(self._until, now - BURST_S) + chunk.count(b"\n") / (4 * LINES_A_SECOND)
        if self._until > now:
            await asyncio.sleep(self._until - now)

    async def aclose(self) -> None:
        await self._answer.aclose()
