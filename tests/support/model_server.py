"""A model server for tests: real HTTP, the chat-completions protocol, answers from a script.

``ModelServer`` gives the replies of its ``script`` one by one and keeps every request it got.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; ``body`` is JSON, or bytes as they are."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


def text(content: str, **more: Any) -> Reply:
    """The model says something."""
    return _completion({"role": "assistant", "content": content}, "stop", **more)


def spoken(*pieces: str, cut_off: bool = False) -> Reply:
    """The model says something as a stream, piece by piece; ``cut_off``: without its end."""
    chunks = [_chunk({"choices": [_choice(piece)]}) for piece in pieces]
    if not cut_off:
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        ends = [
            _chunk({"choices": [_choice("", "stop")]}),
            _chunk({"choices": [], "usage": usage}),
            b"data: [DONE]\n\n",
        ]
        chunks += ends
    length = {"Content-Length": "1000000"} if cut_off else {}
    return Reply(b"".join(chunks), headers={"Content-Type": "text/event-stream", **length})


def _choice(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": reason, "logprobs": None}


def _chunk(more: dict[str, Any]) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted"}
    return b"data: " + json.dumps({**head, **more}).encode() + b"\n\n"


def call(name: str, arguments: Any, **more: Any) -> Reply:
    """The model calls a tool; ``arguments`` as a string are sent as they are."""
    return calls([(name, arguments)], **more)


def calls(wanted: Sequence[tuple[str, Any]], content: str | None = None, **more: Any) -> Reply:
    """The model calls several tools at once, and may say something to it."""
    made = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": _written(arguments)}}
        for n, (name, arguments) in enumerate(wanted, 1)
    ]
    return _completion({"role": "assistant", "content": content, "tool_calls": made}, "tool_calls", **more)


def _written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def submit(value: Any) -> Reply:
    """The model hands in structured output."""
    return call("submit", value)


def fault(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as these servers write it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def _completion(message: dict[str, Any], reason: str, delay_s: float = 0.0) -> Reply:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
    return Reply(body, delay_s=delay_s)


class ModelServer:
    """See the module."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def next(self) -> Reply:
        return self.script.pop(0) if self.script else fault(500, "the script is at its end")


@contextmanager
def serving(*script: Reply) -> Iterator[ModelServer]:
    """A server on a free port of this machine; ``url`` is its base address."""
    model = ModelServer()
    model.script = list(script)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    http.daemon_threads = True
    model.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
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
            model.headers.append({name.lower(): value for name, value in self.headers.items()})
            model.requests.append({"path": self.path, **json.loads(body)})
            with suppress(ConnectionError):  # the client has gone
                self._send(model.next())

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.delay_s)  # the slowness that the script asks for
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

    return Handler
