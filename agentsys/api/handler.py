"""Django behind ASGI, at the price of one change of thread a request.

All our middleware and views are synchronous.  Django's own handler starts a thread for every request and
carries the request to it and back several times, for the signals, the view and the end of the answer; that
cost more than most views.  Here a request goes once to a thread that is kept, and its answer comes back
whole.  Only an answer that is a stream is then sent as Django does it, for it lives on the event loop.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any, cast

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: As many as granian lets in at once, so that nobody waits for a thread while others wait for the database
#: (a health check least of all).  One is started only where none is idle.
MAX_THREADS = 1024


class Handler(ASGIHandler):
    """The whole Django application, middleware included."""

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(MAX_THREADS, "request")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        own = contextvars.copy_context()
        answer = asyncio.get_running_loop().run_in_executor(self._threads, own.run, self._answer, scope, body)
        response = await answer
        if response.streaming:
            await self._stream(response, receive, send)
        else:
            await self.send_response(response, send)

    def _answer(self, scope: Message, body: IO[bytes]) -> HttpResponseBase:
        """The response, in the request's thread; whatever the request held of the database is given back."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        try:
            response = self._respond(scope, body)
        except BaseException:  # the page that tells of an error has one itself
            signals.request_finished.send(sender=self.__class__)
            body.close()
            raise
        if response.streaming:
            close_old_connections()
        else:
            response.close()
            body.close()
        return response

    def _respond(self, scope: Message, body: IO[bytes]) -> HttpResponseBase:
        request, refusal = self.create_request(scope, body)
        response = cast(HttpResponseBase, refusal if request is None else self.get_response(request))
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        return response

    async def _stream(self, response: HttpResponseBase, receive: Receive, send: Send) -> None:
        """Send it part by part, until its end or until the client is gone."""
        async with ThreadSensitiveContext():
            gone = asyncio.ensure_future(self.listen_for_disconnect(receive))
            sending = asyncio.ensure_future(self.send_response(response, send))
            try:
                await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                try:
                    await _ended(gone)
                    await _ended(sending)
                finally:
                    await sync_to_async(response.close)()


async def _ended(task: "asyncio.Future[None]") -> None:
    """Cancel it and wait; raises what it has failed with."""
    task.cancel()
    with suppress(asyncio.CancelledError, RequestAborted):
        await task
