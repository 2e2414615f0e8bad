"""The ASGI door: no body larger than the limit gets past it, and a stream is closed however it ends."""

import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.http import StreamingHttpResponse

from agentsys.api.bodies import LimitedBodies
from agentsys.api.handler import Handler

LIMIT = 10


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body it was given, and the length it was told."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    told = dict(scope["headers"]).get(b"content-length", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"told", told)]})
    await send({"type": "http.response.body", "body": body})


def ask(
    parts: list[bytes], *, length: str | None = None, version: str = "1.1"
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send ``parts``; chunked unless a length is given."""
    headers = [(b"transfer-encoding", b"chunked")] if length is None and version == "1.1" else []
    if length is not None:
        headers.append((b"content-length", length.encode()))
    scope = {"type": "http", "http_version": version, "method": "POST", "path": "/", "headers": headers}

    async def run() -> tuple[int, dict[bytes, bytes], bytes]:
        app = ApplicationCommunicator(LimitedBodies(echo, max_bytes=LIMIT), scope)
        for number, part in enumerate(parts):
            more = number < len(parts) - 1
            await app.send_input({"type": "http.request", "body": part, "more_body": more})
        start = await app.receive_output(5)
        body = await app.receive_output(5)
        return start["status"], dict(start["headers"]), body["body"]

    return asyncio.run(run())


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_body_in_chunks_is_handed_on_with_its_length(version: str) -> None:
    assert ask([b"abc", b"", b"def"], version=version) == (200, {b"told": b"6"}, b"abcdef")


def test_a_body_of_known_length_is_handed_on_as_it_comes() -> None:
    assert ask([b"abc", b"def"], length="6") == (200, {b"told": b"6"}, b"abcdef")


@pytest.mark.parametrize(
    ("parts", "length"), [([], "11"), ([b"x" * 6, b"x" * 6], None), ([b"x" * 11], None), ([], "9" * 19)]
)
def test_a_body_over_the_limit_is_refused_as_soon_as_it_is_known(parts: list[bytes], length: str | None) -> None:
    # The last part never comes: the refusal does not wait for it.
    status, headers, body = ask([*parts, b""], length=length)

    assert (status, headers[b"content-type"]) == (413, b"application/problem+json")
    assert json.loads(body)["code"] == "payload_too_large"


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert ask([b"x" * LIMIT])[0] == 200
    assert ask([b"x" * LIMIT], length="10")[0] == 200


@pytest.mark.parametrize("when", ["the content fails", "the client is gone as it is sent to"])
def test_a_stream_is_closed_however_it_ends(when: str) -> None:
    async def content() -> Any:
        yield b"one"
        if when == "the content fails":
            raise ValueError("no more")
        yield b"two"

    async def send(message: Any) -> None:
        if when != "the content fails" and message.get("body") == b"two":
            raise OSError("the client is gone")

    async def run() -> StreamingHttpResponse:
        response = StreamingHttpResponse(content())
        with pytest.raises((ValueError, OSError)):
            await Handler()._stream(response, asyncio.Event().wait, send)  # type: ignore[arg-type]
        return response

    assert asyncio.run(run()).closed
