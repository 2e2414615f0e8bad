"""Agents that act, end to end: REST, workers as processes that are killed, a model server on the wire, real pages."""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import kill
from typing import Any

import httpx
import pytest

from agentsys.infrastructure.embedded import scratch
from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import ModelServer, Reply
from tests.support.stack import Up

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
PAGES, GONE = 10, 7
END_S = 90.0


class Pages:
    """Ten pages, of which one is not there; how often each was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
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
        self.model.next = lambda: think(self.model.requests[-1]["messages"])  # type: ignore[method-assign]

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


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with scratch() as folder, model_server.serving() as model, serving(Pages()) as pages:
        allow = pages.url.removeprefix("http://")
        own = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "k", "AGENTSYS_HTTP_ALLOW": allow}
        settings = {"AGENTSYS_LEASE_S": "6", "AGENTSYS_HEARTBEAT_S": "2", "AGENTSYS_RETRY_BASE_S": "0.1"}
        with Up(folder, AGENTSYS_MODEL="openai-chat:scripted", **own, **settings) as up:
            made = Stack(up.wait_until_ready(), model, pages)
            with contextlib.closing(made.http):
                yield made


@pytest.fixture
def researcher(stack: Stack) -> str:
    """An agent of mode react; its slug."""
    slug = f"researcher-{time.monotonic_ns()}"
    stack.call("POST", "agents", json={"slug": slug, "name": "Researcher", "mode": "react"})
    return slug


def observed(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def fetch(url: str, numbers: range) -> Reply:
    return model_server.calls([("http__get", {"url": f"{url}/{n}"}) for n in numbers])


def test_a_research_over_ten_pages_survives_the_death_of_its_workers(stack: Stack, researcher: str) -> None:
    stack.pages.delay_s = 1.0

    def think(messages: list[dict[str, Any]]) -> Reply:
        pages = observed(messages)
        if not pages:
            time.sleep(1)
            return fetch(stack.pages.url, range(1, PAGES + 1))
        found = [f"{n * 11}" for n in range(1, PAGES + 1) if any(f"Page {n} says {n * 11}." in page for page in pages)]
        return model_server.text(f"{len(found)} pages, and {len(pages) - len(found)} could not be read: {found}")

    stack.thinks(think)
    run = stack.call("POST", "runs", json={"agent": researcher, "goal": "What do the ten pages say?"})["id"]
    stack.until(run, lambda now: now["status"] == "running")
    stack.kill("worker-model")
    stack.until(run, lambda _: any(step["status"] == "running" for key, step in stack.steps(run).items() if "." in key))
    stack.kill("worker-network")

    ended = stack.ended(run)

    assert ended["status"] == "succeeded", ended
    assert ended["result"].startswith("9 pages, and 1 could not be read")
    steps = stack.steps(run)
    assert len(steps) == 1 + PAGES
    assert [steps[f"act.1.{n}"]["status"] for n in range(1, PAGES + 1)].count("failed") == 1
    assert steps[f"act.1.{GONE}"]["error"]["code"]
    events = stack.call("GET", f"runs/{run}/events?limit=500")["results"]
    assert [event["type"] for event in events].count("step.acting") == 1
    assert set(stack.pages.asked) >= {f"/{n}" for n in range(1, PAGES + 1)}


def test_what_a_page_says_to_do_is_shown_to_the_model_as_what_a_tool_gave(stack: Stack, researcher: str) -> None:
    def think(messages: list[dict[str, Any]]) -> Reply:
        if not observed(messages):
            return fetch(stack.pages.url, range(1, 2))
        return model_server.text("read")

    stack.thinks(think)
    run = stack.call("POST", "runs", json={"agent": researcher, "goal": "Read the page."})["id"]
    assert stack.ended(run)["result"] == "read"
    last = stack.model.requests[-1]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool"]
    assert json.loads(last[2]["tool_calls"][0]["function"]["arguments"]) == {"url": f"{stack.pages.url}/1"}
    assert last[3]["tool_call_id"] == last[2]["tool_calls"][0]["id"]
    assert "Page 1 says 11." in last[3]["content"]
    assert "Page 1 says" not in last[1]["content"]


def test_a_call_waits_for_an_approval_and_a_no_is_seen(stack: Stack) -> None:
    slug = f"careful-{time.monotonic_ns()}"
    fields = {"mode": "react", "approvals": {"tools": ["http.get"], "on_denied": "result"}}
    stack.call("POST", "agents", json={"slug": slug, "name": "Careful", **fields})

    def think(messages: list[dict[str, Any]]) -> Reply:
        seen = observed(messages)
        return model_server.text(f"not read: {seen[0]}") if seen else fetch(stack.pages.url, range(1, 2))

    stack.thinks(think)
    before = dict(stack.pages.asked)
    run = stack.call("POST", "runs", json={"agent": slug, "goal": "Read the page."})["id"]
    stack.until(run, lambda now: (now["status"], now["reason"]) == ("waiting", "approval"))
    (asked,) = [one for one in stack.call("GET", "approvals")["results"] if one["run"] == run]
    stack.call("POST", f"approvals/{asked['id']}/deny", json={"reason": "Not that page."})

    ended = stack.ended(run)

    assert ended["status"] == "succeeded", ended
    assert "not read" in ended["result"]
    assert stack.pages.asked == before
