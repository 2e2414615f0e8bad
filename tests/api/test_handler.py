"""Django behind ASGI: one kept thread a request, whatever it held given back, streams ended with their client."""

import asyncio
import threading
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from agentsys.api.handler import Handler

pytestmark = pytest.mark.django_db(transaction=True)
both = threading.Barrier(2, timeout=10)
ended = threading.Event()
used: list[str] = []


def asking(request: HttpRequest) -> HttpResponse:
    used.append(threading.current_thread().name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        return HttpResponse(str(cursor.fetchone()[0]) + request.body.decode())


def meeting(_request: HttpRequest) -> HttpResponse:
    both.wait()
    return HttpResponse("met")


def broken(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a bug")


def endless(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> Any:
        try:
            while True:
                yield b"part"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    return StreamingHttpResponse(parts())


def short(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> Any:
        for part in (b"a", b"b"):
            yield part

    return StreamingHttpResponse(parts())


urlpatterns = [path(view.__name__, view) for view in (asking, meeting, broken, endless, short)]


def handler500(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if request.body:
        raise RuntimeError("another")
    return HttpResponse("sorry", status=500)


def asked(name: str, body: bytes = b"") -> ApplicationCommunicator:
    headers = [(b"host", b"testserver"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": f"/{name}", "query_string": b"",
             "headers": headers}  # fmt: skip
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        return ApplicationCommunicator(Handler(), scope)


async def answer_of(call: ApplicationCommunicator, body: bytes = b"") -> tuple[int, bytes]:
    await call.send_input({"type": "http.request", "body": body})
    start, text = await call.receive_output(10), b""
    while True:
        message = await call.receive_output(10)
        text += message.get("body", b"")
        if not message.get("more_body"):
            return start["status"], text


def all_given_back() -> bool:
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    return bool(stats["pool_size"] == stats["pool_available"])


@pytest.fixture(autouse=True)
def _own_addresses(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.MIDDLEWARE = __name__, []


def test_a_request_is_answered_and_its_connection_given_back() -> None:
    connection.close()

    assert asyncio.run(answer_of(asked("asking", b"!"), b"!")) == (200, b"7!")

    assert all_given_back()
    assert used[-1].startswith("request")


def test_threads_are_used_again() -> None:
    async def one_after_the_other() -> list[str]:
        first = asked("asking")
        for _ in range(50):
            await answer_of(ApplicationCommunicator(first.application, first.scope))
        return used[-50:]

    # Sometimes the next request comes before a thread has said that it is free.
    assert len(set(asyncio.run(one_after_the_other()))) < 10


def test_requests_at_once_have_a_thread_each() -> None:
    async def together() -> list[tuple[int, bytes]]:
        first = asked("meeting")
        second = ApplicationCommunicator(first.application, first.scope)
        return list(await asyncio.gather(answer_of(first), answer_of(second)))

    assert asyncio.run(together()) == [(200, b"met")] * 2


def test_a_bug_is_a_500_and_the_connection_is_given_back(caplog: Any) -> None:
    connection.close()

    assert asyncio.run(answer_of(asked("broken"))) == (500, b"sorry")

    assert "a bug" in caplog.text
    assert all_given_back()


def test_a_bug_in_the_page_of_bugs_keeps_no_connection() -> None:
    connection.close()

    with pytest.raises(RuntimeError, match="another"):
        asyncio.run(answer_of(asked("broken", b"!"), b"!"))

    assert all_given_back()


def test_a_stream_is_sent_to_its_end() -> None:
    assert asyncio.run(answer_of(asked("short"))) == (200, b"ab")


def test_a_stream_ends_with_its_client() -> None:
    async def leave() -> None:
        call = asked("endless")
        await call.send_input({"type": "http.request", "body": b""})
        assert (await call.receive_output(10))["status"] == 200
        assert (await call.receive_output(10))["body"] == b"part"
        await call.send_input({"type": "http.disconnect"})
        await call.wait(10)

    ended.clear()
    asyncio.run(leave())
    assert ended.wait(10)


def test_who_leaves_before_the_body_is_whole_is_not_served() -> None:
    async def leave() -> None:
        call = asked("asking", b"..")
        await call.send_input({"type": "http.request", "body": b".", "more_body": True})
        await call.send_input({"type": "http.disconnect"})
        await call.wait(10)
        assert call.output_queue.empty()

    before = len(used)
    asyncio.run(leave())
    assert len(used) == before
