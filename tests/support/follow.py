"""Those who follow runs in tests, and events for them to see."""

import json
import time
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection

from agentsys.runs.hub import Follower, Hub
from agentsys.runs.store.change import locked

PATIENCE_S = 20.0


def happen(run_id: UUID, times: int = 1, *, pad: int = 0) -> None:
    """So many events of ``pad`` characters and more in one commit, with its hint."""
    with locked(run_id) as change:
        for n in range(times):
            change.event("message.test", "a", n=n, pad="x" * pad)


async def in_thread(call: Any, *args: Any) -> Any:
    """Call what uses the database; its connection is given back."""

    def run() -> Any:
        try:
            return call(*args)
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


def encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


class Reading:
    """A follower and what it has read."""

    def __init__(self, hub: Hub, run_id: UUID, after: int = 0) -> None:
        self.follower: Follower = hub.follow(run_id, after)
        self.seen: list[dict[str, Any]] = []
        self.over = False

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.seen if "seq" in event]

    async def some(self, timeout_s: float = PATIENCE_S) -> "Reading":
        batch = await self.follower.take(timeout_s)
        assert batch is not None, "nothing came"
        self.seen += [json.loads(line) for line in batch.content.splitlines()]
        self.over = batch.over
        return self

    async def up_to(self, seq: int) -> "Reading":
        end = time.monotonic() + PATIENCE_S
        while not self.seqs or self.seqs[-1] < seq:
            await self.some(max(0.0, end - time.monotonic()))
        return self

    async def nothing(self, for_s: float) -> bool:
        return await self.follower.take(for_s) is None
