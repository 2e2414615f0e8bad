"""The stream of a run's events, through the ASGI door that the web server uses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import BoundedSemaphore
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import connection

from agentsys.accounts.models import Membership
from agentsys.api import streams
from agentsys.asgi import application
from agentsys.core.ids import uuid7
from agentsys.runs import services
from agentsys.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = [{"key": "a", "tool": "test.echo"}]


class Stream:
    """One open request."""

    def __init__(self, path: str, headers: dict[str, str]) -> None:
        lines = {"host": "localhost", "accept": "text/event-stream", **headers}
        pairs = [(name.lower().encode(), value.encode()) for name, value in lines.items()]
        address, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": address, "raw_path": address.encode(),
            "query_string": query.encode(), "headers": pairs, "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        }  # fmt: skip
        self.app = ApplicationCommunicator(application, scope)
        self.headers: dict[str, str] = {}
        self.status = 0
        self._text = ""
        self.ended = False

    async def open(self) -> "Stream":
        await self.app.send_input({"type": "http.request", "body": b""})
        start = await self.app.receive_output(10)
        self.status = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return self

    async def frame(self) -> str | None:
        """The next block up to an empty line; None when the stream has ended."""
        while "\n\n" not in self._text and not self.ended:
            message = await self.app.receive_output(10)
            self._text += message.get("body", b"").decode()
            self.ended = not message.get("more_body", False)
        block, found, self._text = self._text.partition("\n\n")
        return block if found else None

    async def rest(self) -> list[str]:
        blocks = []
        while (block := await self.frame()) is not None:
            blocks.append(block)
        return blocks

    async def body(self) -> Any:
        text = b""
        while True:
            message = await self.app.receive_output(10)
            text += message.get("body", b"")
            if not message.get("more_body", False):
                return json.loads(text)


@asynccontextmanager
async def opened(client: Any, path: str, **headers: str) -> AsyncIterator[Stream]:
    token = client._credentials.get("HTTP_AUTHORIZATION")
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = Stream(path, given | ({"authorization": token} if token else {}))
    try:
        yield await stream.open()
    finally:
        await stream.app.send_input({"type": "http.disconnect"})
        await stream.app.wait(10)


async def elsewhere(call: Callable[[], Any]) -> Any:
    """Run in another thread, with a database connection of its own."""

    def run() -> Any:
        try:
            return call()
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


def path_of(run: Any, query: str = "") -> str:
    return f"/api/v1/runs/{getattr(run, 'pk', run)}/events{query}"


def fields(frame: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in frame.split("\n"))


def busy_connections() -> int:
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    return int(stats["pool_size"] - stats["pool_available"])


def test_events_come_as_they_happen_and_the_stream_ends_with_the_run(viewer: Any, submit: Any, worker: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[str]:
        async with opened(viewer, path_of(run)) as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert stream.headers["cache-control"] == "no-store"
            assert await stream.frame() == "retry: 2000"
            first = await stream.frame()
            assert first is not None
            assert fields(first)["event"] == "run.queued"
            await elsewhere(lambda: worker.finish(Run.objects.get(pk=run.pk)))
            return [first, *await stream.rest()]

    frames = [fields(frame) for frame in asyncio.run(follow())]
    assert [int(frame["id"]) for frame in frames] == [*range(1, len(frames) + 1)]
    assert frames[-1]["event"] == "run.succeeded"
    listed = viewer.get(path_of(run)).json()["results"]
    assert [json.loads(frame["data"]) for frame in frames] == listed


@pytest.mark.promise("P19")
@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_a_broken_stream_goes_on_where_it_was(viewer: Any, submit: Any, worker: Any, how: str) -> None:
    run = worker.finish(submit(STEPS))
    last = Run.objects.get(pk=run.pk).event_seq
    query = {"header": "", "query": "?after=2", "both": "?after=0"}[how]
    headers = {} if how == "query" else {"last_event_id": "2"}

    async def follow() -> list[str]:
        async with opened(viewer, path_of(run, query), **headers) as stream:
            return (await stream.rest())[1:]

    assert [int(fields(frame)["id"]) for frame in asyncio.run(follow())] == [*range(3, last + 1)]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_browser_that_comes_back_after_the_last_event_is_told_to_stay_away(
    viewer: Any, submit: Any, worker: Any, how: str
) -> None:
    run = worker.finish(submit(STEPS))
    query = f"?after={run.event_seq}" if how == "query" else ""
    headers = {} if how == "query" else {"last_event_id": str(run.event_seq)}

    async def follow() -> tuple[int, list[str]]:
        async with opened(viewer, path_of(run, query), **headers) as stream:
            return stream.status, await stream.rest()

    assert asyncio.run(follow()) == (204, [])


def test_a_stream_opened_beyond_the_last_event_ends_with_its_run(viewer: Any, submit: Any, worker: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[str]:
        async with opened(viewer, path_of(run, "?after=1000")) as stream:
            assert (stream.status, await stream.frame()) == (200, "retry: 2000")
            await elsewhere(lambda: worker.finish(Run.objects.get(pk=run.pk)))
            return await stream.rest()

    assert asyncio.run(follow()) == []


def test_one_process_holds_so_many_streams_and_no_more(
    viewer: Any, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_PLACES", BoundedSemaphore(1))
    run = submit(STEPS)

    async def ask() -> tuple[int, str, str]:
        async with opened(viewer, path_of(run)) as stream:
            if stream.status == 200:
                await stream.frame()
                return 200, "", ""
            return stream.status, stream.headers["retry-after"], (await stream.body())["code"]

    async def two() -> list[Any]:
        async with opened(viewer, path_of(run)) as first:
            assert await first.frame() == "retry: 2000"
            refused = await ask()
        return [refused, await ask(), await ask()]

    assert asyncio.run(two()) == [(503, "5", "unavailable"), (200, "", ""), (200, "", "")]


def test_times_of_events_are_written_like_all_other_times(viewer: Any, submit: Any) -> None:
    run = submit(STEPS)

    at = viewer.get(path_of(run)).json()["results"][0]["at"]

    created_at = viewer.get(f"/api/v1/runs/{run.pk}").json()["created_at"]
    assert (at[-1], len(at)) == ("Z", len(created_at))


def test_an_open_stream_holds_no_connection_and_leaves_nothing_behind(viewer: Any, submit: Any) -> None:
    run = submit(STEPS)

    async def follow() -> tuple[int, int, int]:
        before = busy_connections()
        tasks = len(asyncio.all_tasks())
        async with opened(viewer, path_of(run)) as stream:
            await stream.frame()
            await stream.frame()
            seen = []
            for _ in range(50):
                seen.append(busy_connections())
                await asyncio.sleep(0.01)
            during = min(seen)
        left = [task for task in asyncio.all_tasks() if not task.done()]
        return before, during, len(left) - tasks

    before, during, left = asyncio.run(follow())

    assert during <= before
    assert left == 0


def test_a_silent_stream_says_that_it_is_alive(viewer: Any, submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.0)
    run = submit(STEPS)

    async def follow() -> list[str | None]:
        async with opened(viewer, path_of(run)) as stream:
            return [await stream.frame() for _ in range(4)]

    assert ": ping" in asyncio.run(follow())


def test_a_reader_who_loses_access_loses_the_stream(viewer: Any, submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHECK_S", 0.0)
    monkeypatch.setattr(streams, "PING_S", 0.0)
    run = submit(STEPS)

    async def follow() -> list[str]:
        async with opened(viewer, path_of(run)) as stream:
            while not (await stream.frame() or "").startswith("id: "):
                pass
            await elsewhere(lambda: Membership.objects.all().delete())
            return await stream.rest()

    assert not [frame for frame in asyncio.run(follow()) if frame != ": ping"]
    assert Run.objects.get().finished_at is None


def test_a_cancelled_run_ends_its_stream(viewer: Any, submit: Any) -> None:
    run = submit(STEPS)

    async def follow() -> list[str]:
        async with opened(viewer, path_of(run)) as stream:
            await stream.frame()
            await elsewhere(lambda: services.cancel(Run.objects.get(pk=run.pk)))
            return await stream.rest()

    assert fields(asyncio.run(follow())[-1])["event"] == "run.cancelled"


@pytest.mark.parametrize(
    ("who", "headers", "status", "code"),
    [
        ("nobody", {}, 401, "not_authenticated"),
        ("stranger", {}, 404, "not_found"),
        ("viewer", {"last_event_id": "x"}, 422, "invalid_input"),
        ("viewer", {"last_event_id": "-1"}, 422, "invalid_input"),
        ("viewer", {"last_event_id": "9" * 40}, 422, "invalid_input"),
        ("viewer", {"accept": "text/html"}, 406, "not_acceptable"),
    ],
)
def test_a_refused_stream_is_a_problem(
    request: Any, submit: Any, who: str, headers: Any, status: int, code: str
) -> None:
    run = submit(STEPS)

    async def ask(client: Any) -> tuple[int, str, Any]:
        async with opened(client, path_of(run), **headers) as stream:
            return stream.status, stream.headers["content-type"], await stream.body()

    found = asyncio.run(ask(request.getfixturevalue(who)))

    assert found[:2] == (status, "application/problem+json")
    assert found[2]["code"] == code


def test_a_run_that_is_not_there_has_no_stream(viewer: Any) -> None:
    async def ask() -> tuple[int, str]:
        async with opened(viewer, path_of(uuid7())) as stream:
            return stream.status, (await stream.body())["code"]

    assert asyncio.run(ask()) == (404, "not_found")
