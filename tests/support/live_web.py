"""A real web process, and readers of its event streams on plain sockets."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import httpx
from django.db import connection

from agentsys.infrastructure.processes import Process, free_port

ROOT = Path(__file__).parents[2]
START_S, PATIENCE_S = 30.0, 30.0


def database_url() -> str:
    own = connection.settings_dict
    user, password = quote(own["USER"]), quote(own["PASSWORD"])
    return f"postgresql://{user}:{password}@{own['HOST']}:{own['PORT']}/{own['NAME']}"


class LiveWeb(Process):
    """The web server as the stack starts it, on the tests' own database."""

    def __init__(self, folder: Path, *, redis_url: str) -> None:
        self.port = free_port()
        command = [
            *(sys.executable, "-m", "granian", "--interface", "asginl", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--workers", "1", "agentsys.asgi:application"),
        ]
        settings = {"DATABASE_URL": database_url(), "REDIS_URL": redis_url, "AGENTSYS_DATA_DIR": str(folder)}
        super().__init__("web", command, log=folder / "web.log", env={**os.environ, **settings}, cwd=ROOT)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


class EventReader:
    """One open stream, by HTTP/1.0 so that the body comes unwrapped."""

    _open: ClassVar[set["EventReader"]] = set()

    def __init__(self, web: LiveWeb, path: str, headers: Mapping[str, str], *, buffer_bytes: int | None = None) -> None:
        self._web, self._path = web, path
        self._headers = {"Host": "localhost", "Accept": "text/event-stream", **headers}
        self._buffer_bytes = buffer_bytes
        self.status = 0
        self.events: list[dict[str, Any]] = []
        self.ended = False

    async def open(self) -> "EventReader":
        sock = socket.socket()
        if self._buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._web.port))
        limit = self._buffer_bytes or 2**16
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=limit)
        self._open.add(self)
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        self._writer.write(f"GET {self._path} HTTP/1.0\r\n{lines}\r\n".encode())
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        self.status = int(head.split()[1])
        return self

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events]

    async def line(self) -> bytes:
        try:
            read = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
        except ConnectionError:
            read = b""
        if not read.endswith(b"\n"):  # cut off, perhaps within an event
            self.ended = True
        elif read.startswith(b"data: "):
            self.events.append(json.loads(read[6:]))
        return read

    async def up_to(self, seq: int) -> "EventReader":
        end = time.monotonic() + PATIENCE_S
        while not self.ended and (not self.events or self.seqs[-1] < seq):
            assert time.monotonic() < end, f"{self.seqs[-1:]} of {seq}"
            await self.line()
        return self

    async def to_the_end(self) -> "EventReader":
        while not self.ended:
            await self.line()
        return self

    async def close(self) -> None:
        self._open.discard(self)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @classmethod
    async def close_all(cls) -> None:
        for one in list(cls._open):
            await one.close()
