"""A run's events: a list after a number, or a stream (streams.py) that ends with the run.

A stream that breaks goes on without loss or repetition: the client sends the last ``id`` it saw as
``Last-Event-ID`` (browsers do it themselves) or ``?after=``.  When the run has ended and all was read
there is nothing to stream: 204, which tells a browser to stop coming back.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from agentsys.api.pages import invalid, whole_number
from agentsys.api.readers import Reader
from agentsys.api.schema import pages_of
from agentsys.api.steps import RUN, PartsOfRun
from agentsys.api.streams import STREAM, streamed
from agentsys.runs import stream
from agentsys.runs.models import Event

MAX_SEQ = 2**31 - 1
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


class Events(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read"}
    parameters = ("after", "limit")
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
            return streamed(run_id, after, Reader.of(request))
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
