"""A stack whose model is a script, real pages to read, a place to post to, and a user who works by REST."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import kill
from typing import Any

import httpx

from agentsys.infrastructure.embedded import scratch
from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import ModelServer, Reply
from tests.support.stack import Up

PAGES, GONE = 10, 7
END_S = 90.0


class Pages:
    """Ten pages, of which one is not there; how often each was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        self.posted: list[tuple[str, Any]] = []
        self.delay_s, self.url = 0.0, ""


@contextmanager
def serving(pages: Pages) -> Iterator[Pages]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.asked[self.path] = pages.asked.get(self.path, 0) + 1
            time.sleep(pages.delay_s)
            gone = self.path == f"/{GONE}"
            body = b"" if gone else f"<p>Page {self.path[1:]} says {int(self.path[1:]) * 11}.</p>".encode()
            self.send_response(404 if gone else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            pages.posted.append((self.headers["Idempotency-Key"], body))
            time.sleep(pages.delay_s)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield pages
    finally:
        http.shutdown()
        http.server_close()


class Stack:
    """A stack whose model is ours, and a user of it."""

    def __init__(self, up: Up, model: ModelServer, pages: Pages) -> None:
        self.up, self.model, self.pages = up, model, pages
        at = up.endpoints
        self.http = httpx.Client(base_url=f"{at['api']}/", timeout=30, trust_env=False)
        login = {"username": at["username"], "password": at["password"]}
        self.http.headers["Authorization"] = f"Bearer {self.call('POST', 'auth/token', json=login)['access']}"

    def call(self, method: str, path: str, **how: Any) -> Any:
        return self.http.request(method, path, **how).raise_for_status().json()

    def thinks(self, think: Callable[[list[dict[str, Any]]], Reply]) -> None:
        """The model answers by what it has been told, however often it is asked."""
        self.model.answer = lambda request: think(request["messages"])

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        return {step["key"]: step for step in self.call("GET", f"runs/{run}/steps?limit=100")["results"]}

    def until(self, run: str, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + END_S
        while not so(now := self.call("GET", f"runs/{run}")):
            assert time.monotonic() < end, (now, self.steps(run))
            time.sleep(0.1)
        return now

    def ended(self, run: str) -> dict[str, Any]:
        return self.until(run, lambda now: now["finished_at"] is not None)

    def kill(self, name: str) -> None:
        """kill -9 of a worker's main process; its supervisor starts another."""
        kill(self.up.endpoints["processes"][name], signal.SIGKILL)


@contextmanager
def running(**settings: str) -> Iterator[Stack]:
    """All processes of an installation with these settings, a scripted model and ten pages."""
    with scratch() as folder, model_server.serving() as model, serving(Pages()) as pages:
        own = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "k", "AGENTSYS_MODEL": "openai-chat:scripted"}
        own["AGENTSYS_HTTP_ALLOW"] = pages.url.removeprefix("http://")
        with Up(folder, **own, **settings) as up:
            made = Stack(up.wait_until_ready(), model, pages)
            with closing(made.http):
                yield made


def observed(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def fetch(url: str, numbers: range) -> Reply:
    return model_server.calls([("http__get", {"url": f"{url}/{n}"}) for n in numbers])
