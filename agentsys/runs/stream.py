"""A run's events for those who follow it: read from PostgreSQL after a seq, again and again.

Nobody tells a follower to look: one query each ``POLL_S`` a follower, on the index that the events are
ordered by, finds what is new.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection

from .models import Event, Run
from .states import RUN_FINAL

#: A follower looks this often.
POLL_S = 0.5
#: Every so many empty polls a follower asks whether there is anything left to wait for.
ASK_EVERY = 20
MAX_BATCH = 500
FINAL_TYPES = frozenset(f"run.{status}" for status in RUN_FINAL)


def events(run_id: UUID, *, after: int = 0, limit: int = MAX_BATCH) -> list[dict[str, Any]]:
    """Events with a seq above ``after``, in order: {seq, type, step, at, data}.  Costs one query."""
    rows = Event.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")
    return [
        {
            "seq": event.seq,
            "type": event.type,
            "step": event.step or None,
            "at": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": event.data,
        }
        for event in rows[: min(limit, MAX_BATCH)]
    ]


def is_over(run_id: UUID, *, after: int) -> bool:
    """Whether nothing will ever come after ``after``: the run has ended (or is gone) and all was read.

    Costs one query.
    """
    run = Run.objects.filter(pk=run_id).values("status", "event_seq").first()
    return run is None or (run["status"] in RUN_FINAL and run["event_seq"] <= after)


async def follow(run_id: UUID, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
    """Batches of events as they come, an empty one each POLL_S without; ends after the run's last event.

    Holds no connection between reads.
    """
    read = sync_to_async(_read, thread_sensitive=False)
    silent = 0
    while True:
        batch, over = await read(run_id, after, ask=silent % ASK_EVERY == 0)
        yield batch
        if over or any(event["type"] in FINAL_TYPES for event in batch):
            return
        if batch:
            after = batch[-1]["seq"]
        else:
            silent += 1
        if len(batch) < MAX_BATCH:
            await asyncio.sleep(POLL_S)


def _read(run_id: UUID, after: int, *, ask: bool) -> tuple[list[dict[str, Any]], bool]:
    """The events, and whether there will be no more; that is found out only when there are none and ``ask``."""
    try:
        batch = events(run_id, after=after)
        return batch, ask and not batch and is_over(run_id, after=after)
    finally:
        connection.close()
