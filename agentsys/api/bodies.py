"""The first door of the web process: no body larger than the limit gets past it.

Django's ASGI handler would store a body of any size in a temporary file before any code of ours sees
the request, and DRF takes one without Content-Length (a chunked upload) for empty.  So a large one
is refused here by its header or while it comes in, and a chunked one is handed on with its length.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from agentsys.api.problems import CONTENT_TYPE, of_error
from agentsys.core.errors import PayloadTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]  # (scope, receive, send)


class LimitedBodies:
    """ASGI: ``app`` behind a limit of ``max_bytes`` for each request's body."""

    def __init__(self, app: App, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _content_length(scope)
        if length is not None and length > self._max_bytes:
            await self._refuse(send)
        elif length is not None or not _is_chunked(scope):
            await self._app(scope, receive, send)
        elif (body := await self._read(receive)) is None:
            await self._refuse(send)
        else:
            scope["headers"] = [*scope["headers"], (b"content-length", str(len(body)).encode())]
            await self._app(scope, _replayed(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or None as soon as it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return b"".join(parts)

    async def _refuse(self, send: Send) -> None:
        error = PayloadTooLarge(f"The body is larger than {self._max_bytes:,} bytes.")
        body = json.dumps(of_error(error)).encode()
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _content_length(scope: Message) -> int | None:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return None


def _is_chunked(scope: Message) -> bool:
    """HTTP/2 has no such header and may leave the length out."""
    names = {name.lower() for name, _ in scope["headers"]}
    return b"transfer-encoding" in names or (scope["http_version"] == "2" and scope["method"] in _WITH_BODY)


_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the whole body first, then what the server has (the disconnect)."""
    rest = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return rest.pop() if rest else await receive()

    return next_message
