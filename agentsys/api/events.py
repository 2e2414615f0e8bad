"""A run's events: a list after a number, or a stream that ends with the run.

A stream that breaks goes on without loss or repetition: the client sends the last ``id`` it saw as
``Last-Event-ID`` (browsers do it themselves) or ``?after=``.  While it is open it holds no database
connection, and once a minute asks again whether its reader may still read.  When the run has ended and
all was read there is nothing to stream: 204, which tells a browser to stop coming back.
"""

import asyncio
import json
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from threading import BoundedSemaphore
from typing import Any, ClassVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from agentsys.api import auth, tokens
from agentsys.api.pages import invalid, whole_number
from agentsys.api.schema import pages_of
from agentsys.api.steps import RUN, PartsOfRun
from agentsys.core.errors import AgentSysError
from agentsys.runs import stream
from agentsys.runs.models import Event

PING_S = 15.0
#: How often an open stream asks whether its reader may still read.
CHECK_S = 60.0
MAX_SEQ = 2**31 - 1
#: Open streams of this process: each polls, and all polls share the process's connections and threads.
MAX_STREAMS = 500
_PLACES = BoundedSemaphore(MAX_STREAMS)
STREAM = "text/event-stream"
AFTER = OpenApiParameter("after", int, description="Events with a greater seq only.")
LIMIT = OpenApiParameter("limit", int, description="At most so many (a list only); 1 to 500.")
LAST_ID = OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER, description="As after, for streams.")


class EventOut(serializers.Serializer[Any]):
    seq = serializers.IntegerField(help_text="1, 2, 3… without gaps.")
    type = serializers.CharField()
    step = serializers.CharField(allow_null=True, help_text="The key of a step.")
    at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class EventStream(JSONRenderer):
    """Lets a client ask for the stream by ``Accept``; a refusal is JSON all the same."""

    media_type = STREAM
    format = "stream"
    charset = "utf-8"


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


class Events(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read"}
    queryset = Event.objects.none()
    renderer_classes: ClassVar[tuple[type[BaseRenderer], ...]] = (JSONRenderer, EventStream)  # type: ignore[misc]

    @extend_schema(
        operation_id="events_list",
        tags=["runs"],
        parameters=[RUN, AFTER, LIMIT, LAST_ID],
        responses={(200, "application/json"): pages_of(EventOut), (200, STREAM): OpenApiTypes.STR, 204: None},
    )
    def list(self, request: Request, run_id: UUID) -> HttpResponseBase:
        """What happened in a run, in order; with ``Accept: text/event-stream`` as it happens.

        A stream of which nothing is left is a 204; a process with too many open streams says 503.
        """
        self.check_run(run_id)
        after = _after(request)
        if isinstance(request.accepted_renderer, EventStream):
            if stream.is_over(run_id, after=after):
                return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
            return _streamed(frames(run_id, after, may_read=_checker(request)))
        limit = whole_number(request, "limit", default=100, least=1, most=stream.MAX_BATCH)
        found = stream.events(run_id, after=after, limit=limit)
        more = None
        if len(found) == limit:
            more = replace_query_param(request.build_absolute_uri(), "after", found[-1]["seq"])
        return Response({"next": more, "previous": None, "results": found})


def _after(request: Request) -> int:
    """The header wins: a browser that reconnects repeats the old query string."""
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return whole_number(request, "after", default=0, least=0, most=MAX_SEQ)
    if not (given.isascii() and given.isdigit() and len(given) < 11 and int(given) <= MAX_SEQ):
        raise invalid("Last-Event-ID", "Must be the id of an event of this stream.")
    return int(given)


def _streamed(content: AsyncGenerator[bytes, None]) -> StreamResponse:
    """
    Raises:
        TooManyStreams: every place is taken.
    """
    if not _PLACES.acquire(blocking=False):
        raise TooManyStreams()
    if not connection.in_atomic_block:
        connection.close()  # else the open response would keep it
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamResponse(content, content_type=f"{STREAM}; charset=utf-8", headers=headers)


def _checker(request: Request) -> Callable[[], bool]:
    claims = tokens.claims_of(auth.bearer(request) or b"")
    workspace = request.headers.get(auth.WORKSPACE_HEADER)

    def may_read() -> bool:
        """Whether the session, the membership and the role are still good.  Costs one query."""
        try:
            return auth.access_of(claims, workspace).allows("runs.read")
        except (AgentSysError, APIException):
            return False
        finally:
            connection.close()

    return may_read


async def frames(run_id: UUID, after: int, *, may_read: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """The stream, frame by frame; ends after the run's last event, or when its reader loses access."""
    ask = sync_to_async(may_read, thread_sensitive=False)
    written_at = checked_at = time.monotonic()
    yield b"retry: 2000\n\n"
    async with aclosing(_batches(run_id, after)) as batches:
        async for batch in batches:
            now = time.monotonic()
            if now - checked_at >= CHECK_S:
                if not await ask():
                    return
                checked_at = now
            if batch:
                yield b"".join(map(_frame, batch))
                written_at = now
            elif now - written_at >= PING_S:
                yield b": ping\n\n"
                written_at = now


async def _batches(run_id: UUID, after: int) -> AsyncGenerator[list[dict[str, Any]], None]:
    """What ``stream.follow`` gives, and an empty batch whenever it is silent for a second."""
    source = stream.follow(run_id, after)
    waiting: asyncio.Task[Any] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(source, None))
            await asyncio.wait({waiting}, timeout=1.0)
            if not waiting.done():
                yield []
                continue
            batch, waiting = waiting.result(), None
            if batch is None:
                return
            yield batch
    finally:
        if waiting is not None:
            waiting.cancel()


def _frame(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"id: {event['seq']}\nevent: {event['type']}\ndata: {data}\n\n".encode()
