"""A line to PostgreSQL that is cut on purpose: before a statement arrives, or after it is done and before its answer.

Frames of the protocol are read as far as telling statements apart needs it (PostgreSQL manual, "Message Formats").
No TLS: the address says so.
"""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentsys.runs.store.sql import SQL
from tests.chaos.relay import End, Relay

_READY = b"Z\x00\x00\x00\x05"
_NAMES = {statement.text: name for name, statement in SQL.items()}
HOW = ("before", "after", "torn")


@dataclass
class Cutter:
    """Which statement is cut next, and how; one at a time, so that each is a fault by itself.

    ``due`` counts the cuts still to come, by statement and way.
    """

    due: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    share: float = 0.2

    def plan(self, names: list[str], times: int) -> None:
        for name in names:
            for how in HOW:
                self.due[name, how] += times

    def chosen(self, names: set[str]) -> str:
        """How to cut a message that has these statements; empty: not at all."""
        self.seen.update(names)
        for name in sorted(names):
            ways = [how for how in HOW if self.due[name, how] > 0]
            if ways and self.dice.random() < self.share:
                how = self.dice.choice(ways)
                self.due[name, how] -= 1
                self.done[name, how] += 1
                return how
        return ""

    @property
    def left(self) -> int:
        return sum(self.due.values())


class Frames:
    """The statements that a client sends on one connection, by the names that agentsys gives them."""

    def __init__(self) -> None:
        self._rest, self._started = b"", False
        self._prepared: dict[bytes, str] = {}

    def feed(self, data: bytes) -> set[str]:
        self._rest += data
        found = set()
        while (frame := self._next()) is not None:
            if name := self._named(*frame):
                found.add(name)
        return found

    def _next(self) -> tuple[bytes, bytes] | None:
        kind_bytes = 1 if self._started else 0  # the first message has no type
        head = self._rest[: kind_bytes + 4]
        if len(head) < kind_bytes + 4:
            return None
        (length,) = struct.unpack("!I", head[kind_bytes:])
        whole = kind_bytes + length
        if len(self._rest) < whole:
            return None
        frame, self._rest = self._rest[:whole], self._rest[whole:]
        kind, self._started = frame[:kind_bytes], True
        return kind, frame[kind_bytes + 4 :]

    def _named(self, kind: bytes, body: bytes) -> str:
        if kind == b"Q":
            return _name_of(body.rstrip(b"\0"))
        if kind == b"P":
            name, query = body.split(b"\0")[:2]
            self._prepared[name] = _name_of(query)
        if kind == b"B":
            return self._prepared.get(body.split(b"\0")[1], "")
        return ""


def _name_of(query: bytes) -> str:
    text = query.decode(errors="replace")
    return _NAMES.get(text) or text.split(" ")[0].upper()


class Wire(Relay):
    """A relay to PostgreSQL that cuts as its cutter says."""

    def __init__(self, url: str) -> None:
        self.cutter = Cutter()
        super().__init__(url)
        self.url += "?sslmode=disable&gssencmode=disable"

    async def pass_on(self, client: End, server: End) -> None:
        line = _Line(client[1], server[1], self.cutter)
        await asyncio.gather(line.ask(client[0]), line.answer(server[0]))


class _Line:
    """One connection.  ``_cut`` says how what is under way on it ends."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, cutter: Cutter) -> None:
        self._client, self._server, self._cutter = client, server, cutter
        self._frames, self._cut = Frames(), ""

    async def ask(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                self._cut = self._cut or self._cutter.chosen(self._frames.feed(data))
                if self._cut == "before":
                    break
                self._server.write(data)
                await self._server.drain()
        if self._cut in ("", "before"):
            self._hang_up()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                if self._cut:
                    if self._cut == "torn":
                        self._client.write(data[: len(data) // 2])
                        await self._client.drain()
                    if data[-6:-1] == _READY:  # the server has done it
                        break
                    continue
                self._client.write(data)
                await self._client.drain()
        self._hang_up()

    def _hang_up(self) -> None:
        for writer in (self._client, self._server):
            writer.close()


@contextmanager
def wire(url: str) -> Iterator[Wire]:
    made = Wire(url)
    try:
        yield made
    finally:
        made.close()
