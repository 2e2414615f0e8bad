"""Sends what is scripted: one reply after the other, or whatever a function says to a request."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agentsys.llm.scripted import protocols
from agentsys.llm.scripted.protocols import PROTOCOLS, Protocol
from agentsys.llm.scripted.replies import Reply, Said, fault

#: Of a stream whose connection is lost: more than will come.
_NEVER = "1000000"


class ModelServer:
    """The replies of its ``script`` are given one by one, or by ``answer``; every request is kept, with its headers.

    ``answer`` is asked on the thread of the request: by several at once where several ask.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], Reply] | None = None) -> None:
        self.script: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.answer = answer
        self._lock = threading.Lock()

    def reply(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        """To a request with its ``path``."""
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            if self.answer is None:
                return self.script.pop(0) if self.script else fault(500, "the script is at its end")
        return self.answer(request)


@contextmanager
def serving(*script: Reply, answer: Callable[[dict[str, Any]], Reply] | None = None) -> Iterator[ModelServer]:
    """A server on a free port of this machine; ``url`` is its base address."""
    model = ModelServer(answer)
    model.script = list(script)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    http.daemon_threads = True
    model.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, name="scripted-model")
    thread.start()
    try:
        yield model
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(model: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = {"path": self.path, **json.loads(body)}
            with suppress(ConnectionError):  # the client has gone
                self._send(model.reply(request, headers), request)

        def _send(self, reply: Reply, request: dict[str, Any]) -> None:
            time.sleep(reply.delay_s)  # the slowness that the script asks for
            headers, body = _written(reply, request)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **headers, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Whoever asks knows what it has asked."""

    return Handler


def _written(reply: Reply, request: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a reply in the words of the protocol in which it was asked for."""
    protocol = next((found for end, found in PROTOCOLS.items() if request["path"].endswith(end)), protocols.Chat)
    if isinstance(reply.body, bytes):
        return {"Content-Type": "application/json"}, reply.body
    if isinstance(reply.body, Said) and request["path"].endswith("/embeddings"):
        return {"Content-Type": "application/json"}, json.dumps(protocols.embeddings(request)).encode()
    if not isinstance(reply.body, Said):
        body = protocols.fault_of(protocol, reply.status, reply.body)
        return {"Content-Type": "application/json"}, json.dumps(body).encode()
    if request.get("stream"):
        return _streamed(reply, protocol)
    return {"Content-Type": "application/json"}, json.dumps(protocol.whole(reply.body)).encode()


def _streamed(reply: Reply, protocol: Protocol) -> tuple[dict[str, str], bytes]:
    headers, events = {"Content-Type": "text/event-stream"}, list(protocol.events(reply.body))
    if not reply.breaks:
        return headers, b"".join(map(protocols.encoded, events)) + protocol.ending
    kept = events[: 1 + max(n for n, event in enumerate(events) if _says_something(event))]
    if reply.breaks == "lost":
        headers["Content-Length"] = _NEVER
    if reply.breaks == "error":
        kept.append(protocol.error())
    return headers, b"".join(map(protocols.encoded, kept))


def _says_something(event: protocols.Event) -> bool:
    """Whether a piece of the answer is in it."""
    _, data = event
    choices = data.get("choices") or [{}]
    return bool(data.get("delta") or choices[0].get("delta")) and data.get("type") != "message_delta"
