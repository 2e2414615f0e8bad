"""A run's events for those who follow it: read from PostgreSQL after a seq, told to look by Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection

from .models import Event, Run
from .states import RUN_FINAL

#: Whatever happens to the hint, a follower looks this often.
POLL_S = 0.5
MAX_BATCH = 500
FINAL_TYPES = frozenset(f"run.{status}" for status in RUN_FINAL)


def events(run_id: UUID, *, after: int = 0, limit: int = MAX_BATCH) -> list[dict[str, Any]]:
    """Events with a seq above ``after``, in order: {seq, type, step, at, data}."""
    rows = Event.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")
    return [
        {
            "seq": event.seq,
            "type": event.type,
            "step": event.step or None,
            "at": event.at.isoformat(),
            "data": event.data,
        }
        for event in rows[: min(limit, MAX_BATCH)]
    ]


async def follow(run_id: UUID, after: int = 0) -> AsyncIterator[list[dict[str, Any]]]:
    """Batches of events as they come, an empty one each POLL_S without; ends after the run's last event.

    Holds no connection between reads.
    """
    read = sync_to_async(_read, thread_sensitive=False)
    while True:
        batch, ended = await read(run_id, after)
        yield batch
        if batch:
            after = batch[-1]["seq"]
            if batch[-1]["type"] in FINAL_TYPES:
                return
        elif ended:
            return
        if len(batch) < MAX_BATCH:
            await asyncio.sleep(POLL_S)


def _read(run_id: UUID, after: int) -> tuple[list[dict[str, Any]], bool]:
    try:
        batch = events(run_id, after=after)
        ended = not batch and not Run.objects.filter(pk=run_id).exclude(status__in=RUN_FINAL).exists()
        return batch, ended
    finally:
        connection.close()
