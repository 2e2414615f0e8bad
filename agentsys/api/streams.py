"""An open event stream: frames of SSE as the hub brings them, until the run or its reader's right ends.

While it is open it holds no database connection.  A reader that stops reading is cut off ``STALLED_S``
after the server could send it no more; it may come back with the last ``id`` it saw.
"""

import asyncio
import json
import time
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing, contextmanager
from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import StreamingHttpResponse
from rest_framework.exceptions import APIException

from agentsys.api.readers import Reader, Readers
from agentsys.runs.hub import Hub

STREAM = "text/event-stream"
PING_S = 15.0
#: How often an open stream asks whether its reader may still read; the answer may be as old again.
CHECK_S = 2.5
STALLED_S = 20.0
#: What a reader must take within ``STALLED_S``, however large the batch.
PIECE_BYTES = 65_536
#: Open streams of this process; each costs a few kB and, where its reader is slow, one batch of events.
MAX_STREAMS = 1_000
_PLACES = BoundedSemaphore(MAX_STREAMS)


class TooManyStreams(APIException):
    status_code = 503
    default_code = "unavailable"
    default_detail = "Too many event streams are open here; try again, or read the events as lists."
    wait = 4.0  # becomes Retry-After


class StreamResponse(StreamingHttpResponse):
    """A stream that has a place until it is closed, or forgotten: some ways to end close nothing."""

    def __init__(self, content: AsyncGenerator[bytes, None], **how: Any) -> None:
        super().__init__(content, **how)
        self._leave = weakref.finalize(self, _PLACES.release)

    def close(self) -> None:
        self._leave()
        super().close()


def streamed(run_id: UUID, after: int, reader: Reader) -> StreamResponse:
    """
    Raises:
        TooManyStreams: every place is taken.
    """
    if not _PLACES.acquire(blocking=False):
        raise TooManyStreams()
    if not connection.in_atomic_block:
        connection.close()  # else the open response would keep it
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    content = frames(run_id, after, reader)
    return StreamResponse(content, content_type=f"{STREAM}; charset=utf-8", headers=headers)


async def frames(run_id: UUID, after: int, reader: Reader) -> AsyncGenerator[bytes, None]:
    """The stream, frame by frame; ends after the run's last event, or when its reader loses access."""
    async with aclosing(_content(run_id, after, reader)) as contents:
        async for content in contents:
            for first in range(0, len(content), PIECE_BYTES):
                with _cut_off_if_stalled():
                    yield content[first : first + PIECE_BYTES]


async def _content(run_id: UUID, after: int, reader: Reader) -> AsyncGenerator[bytes, None]:
    yield b"retry: 2000\n\n"
    with closing(HUB.follow(run_id, after)) as follower, READERS.reading(reader):
        written_at = checked_at = time.monotonic()
        while True:
            until = min(written_at + PING_S, checked_at + CHECK_S)
            batch = await follower.take(max(0.0, until - time.monotonic()))
            now = time.monotonic()
            if now >= checked_at + CHECK_S:
                checked_at = now
                if not await READERS.may_read(reader, max_age_s=CHECK_S):
                    return
            if batch is not None or now >= written_at + PING_S:
                yield batch.content if batch else b": ping\n\n"
                written_at = time.monotonic()
            if batch is not None and batch.over:
                return


@contextmanager
def _cut_off_if_stalled() -> Iterator[None]:
    """Ends the response if what was yielded is not sent on within ``STALLED_S``.

    The server takes a frame when there is room for it, and asks for no other before.
    """
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(STALLED_S, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


def _frame(event: dict[str, Any]) -> bytes:
    """An event with its seq as id; a delta has none, and none is resumed."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    named = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{named}event: {event['type']}\ndata: {data}\n\n".encode(errors="replace")


HUB = Hub(_frame)
READERS = Readers("runs.read")
