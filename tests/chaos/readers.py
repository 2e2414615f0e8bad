"""Hundreds of readers of event streams: some reconnect again and again, some stop reading."""

import asyncio
import contextlib
import json
import random
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LIMIT_S, AGAIN_S = 120.0, 0.2
#: So small that what is not read soon fills it.
SMALL_BYTES = 4_096


@dataclass
class Reader:
    """Follows one run; ``seqs`` are the events that it got, ``opened`` how often it connected."""

    api: str
    run_id: str
    authorization: str
    dice: random.Random
    seqs: list[int] = field(default_factory=list)
    opened: int = 0

    async def read(self) -> None:
        """Read to the end of the run, and break off every so many events."""
        while not await self._read_some(self.dice.randint(3, 30)):
            await asyncio.sleep(AGAIN_S * self.dice.random())

    async def _read_some(self, most: int) -> bool:
        """Whether nothing is left to read."""
        try:
            async with asyncio.timeout(LIMIT_S):
                reader, writer = await self.connect()
                try:
                    return await self._events(reader, most)
                finally:
                    writer.close()
        except OSError:  # the web process is busy
            return False

    async def _events(self, reader: asyncio.StreamReader, most: int) -> bool:
        status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        if status != 200:
            assert status in (204, 503), status
            return status == 204
        taken = 0
        while taken < most and (line := await reader.readline()):
            if line.startswith(b"data: ") and "seq" in (event := json.loads(line[6:])):
                self.seqs.append(event["seq"])
                taken += 1
        return False

    async def connect(self, *, buffer_bytes: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """HTTP/1.0, so that the body comes unwrapped."""
        to, sock = urlsplit(self.api), socket.socket()
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (to.hostname, to.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer_bytes or 2**16)
        last = f"Last-Event-ID: {self.seqs[-1]}\r\n" if self.seqs else ""
        head = f"Host: localhost\r\nAccept: text/event-stream\r\nAuthorization: {self.authorization}\r\n{last}"
        writer.write(f"GET {to.path}/runs/{self.run_id}/events HTTP/1.0\r\n{head}\r\n".encode())
        self.opened += 1
        return reader, writer


async def follow(readers: list[Reader], sleepers: list[Reader]) -> None:
    """All at once; returns when every reader has read to the end.  Sleepers connect and never read."""
    asleep = [await one.connect(buffer_bytes=SMALL_BYTES) for one in sleepers]
    try:
        async with asyncio.TaskGroup() as group:
            for one in readers:
                group.create_task(one.read())
    finally:
        for _, writer in asleep:
            writer.close()
        for _, writer in asleep:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
