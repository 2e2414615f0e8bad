"""One reader a process for all who follow runs: one query a look, whoever and however many they are.

A look is taken when a hint says that a followed run has new events, when somebody begins to follow,
and every ``POLL_S`` whatever happens, so that a lost hint, or no Redis at all, costs no more than that.
Followers at the same place of the same run share what is read and encoded.  A follower that has not
taken its last batch is not read for: what a slow one costs is one batch.

Two threads, while anybody follows: one looks and one hears hints.  No connection is held between looks.
"""

import asyncio
import json
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from agentsys.core.hints import Listener

from . import dispatch, stream
from .stream import News, Place

logger = logging.getLogger(__name__)

POLL_S = 2.0
#: Between two looks, however many hints come.
PAUSE_S = 0.05
#: While PostgreSQL is away.
RETRY_S = 1.0
#: Pieces of what a model says that wait for a slow reader, and their size; older ones are dropped.
MAX_DELTAS, MAX_DELTA_CHARS = 64, 4_096

#: Makes bytes of an event, or of a delta (which has no seq).
Encode = Callable[[dict[str, Any]], bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded events in order; ``over`` says that none will follow."""

    content: bytes
    over: bool = False


class Follower:
    """One reader's place in a run, made and used on one event loop."""

    def __init__(self, hub: "Hub", run_id: UUID, after: int) -> None:
        self.run_id, self.after = run_id, after
        self.loop = asyncio.get_running_loop()
        # Under the hub's lock: whether a batch is under way or was not taken, and news came meanwhile.
        self.full = self.missed = False
        self._hub = hub
        self._batch: Batch | None = None
        self._deltas: deque[bytes] = deque(maxlen=MAX_DELTAS)
        self._news = asyncio.Event()

    async def take(self, timeout_s: float) -> Batch | None:
        """What has come; None when nothing did within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return None
        self._news.clear()
        deltas = b"".join(self._deltas)
        self._deltas.clear()
        batch, self._batch = self._batch, None
        if batch is None:
            return Batch(deltas)
        self._hub.taken(self)
        return Batch(deltas + batch.content, batch.over)

    def put(self, batch: Batch) -> None:
        self._batch = batch
        self._news.set()

    def put_delta(self, content: bytes) -> None:
        self._deltas.append(content)
        self._news.set()

    def close(self) -> None:
        self._hub.leave(self)


class Hub:
    """All followers of this process, on any number of event loops."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._changed = threading.Condition()
        self._followers: dict[UUID, set[Follower]] = defaultdict(set)
        self._due: set[Follower] = set()
        self._looks: threading.Thread | None = None
        self._hears: Listener | None = None

    def follow(self, run_id: UUID, after: int) -> Follower:
        """Begin to follow a run after a seq, on the running event loop.  To be closed."""
        made = Follower(self, run_id, after)
        with self._changed:
            self._followers[run_id].add(made)
            self._due.add(made)
            self._attend()
            self._changed.notify()
        return made

    def leave(self, follower: Follower) -> None:
        with self._changed:
            theirs = self._followers.get(follower.run_id, set())
            theirs.discard(follower)
            self._due.discard(follower)
            if not theirs:
                self._followers.pop(follower.run_id, None)

    def taken(self, follower: Follower) -> None:
        """The follower has room again."""
        with self._changed:
            follower.full = False
            if follower.missed:
                follower.missed = False
                self._due.add(follower)
                self._changed.notify()

    # --- Hints: they come from anybody, and only make us look ------------------------------
    def _heard(self, channel: str, items: list[str]) -> None:
        if channel == dispatch.DELTAS:
            for item in items:
                self._delta(item)
            return
        with self._changed:
            for run_id in filter(None, map(_uuid, items)):
                self._look_at(self._followers.get(run_id, ()))
            self._changed.notify()

    def _look_at_all(self) -> None:
        with self._changed:
            for theirs in self._followers.values():
                self._look_at(theirs)
            self._changed.notify()

    def _look_at(self, followers: Any) -> None:
        for one in followers:
            if one.full:
                one.missed = True
            else:
                self._due.add(one)

    def _delta(self, item: str) -> None:
        delta = _delta_of(item)
        run_id = _uuid(delta["run"]) if delta else None
        with self._changed:
            theirs = list(self._followers.get(run_id, ())) if run_id else []
        if not theirs or delta is None:
            return
        shown = {"type": "model.delta", "step": delta["step"], "n": delta["n"], "data": delta["data"]}
        content = self._encode(shown)
        _deliver(theirs, lambda one: one.put_delta(content))

    # --- Looking ----------------------------------------------------------------------------
    def _attend(self) -> None:
        """Start the threads that are not there; under the lock."""
        if self._looks is None:
            self._looks = threading.Thread(target=self._run, name="hub", daemon=True)
            self._looks.start()
        if self._hears is None:
            self._hears = Listener(
                (dispatch.CHANGED, dispatch.DELTAS), self._heard, joined=self._look_at_all, wanted=self._is_wanted
            )
            self._hears.start()

    def _is_wanted(self) -> bool:
        """Asked by the listener; once told that it is not, it ends."""
        with self._changed:
            if not self._followers:
                self._hears = None
            return bool(self._followers)

    def _run(self) -> None:
        poll_at = time.monotonic() + POLL_S
        while True:
            with self._changed:
                if not self._followers:
                    self._looks = None
                    return
                self._changed.wait_for(lambda: self._due, poll_at - time.monotonic())
            if time.monotonic() >= poll_at:
                self._look_at_all()
                poll_at = time.monotonic() + POLL_S
            time.sleep(PAUSE_S if self._look() else RETRY_S)

    def _look(self) -> bool:
        """Read for all who are due, with one query.  False: it failed; they stay due."""
        places: dict[Place, list[Follower]] = defaultdict(list)
        with self._changed:
            due, self._due = self._due, set()
            for one in due:
                if one.full:
                    one.missed = True
                else:
                    places[one.run_id, one.after].append(one)
        try:
            found = stream.news(list(places)) if places else []
        except Exception as error:  # PostgreSQL is away: they wait; this thread is all they have
            logger.warning("followers wait for PostgreSQL: %r", error)
            with self._changed:
                self._due |= due & {one for theirs in self._followers.values() for one in theirs}
            return False
        finally:
            connection.close()
        for followers, news in zip(places.values(), found, strict=True):
            self._hand_out(followers, news)
        return True

    def _hand_out(self, followers: Sequence[Follower], news: News) -> None:
        if not news.events and not news.over:
            return
        batch = Batch(b"".join(map(self._encode, news.events)), news.over)
        with self._changed:
            for one in followers:
                one.full, one.missed = True, one.missed or news.more
                one.after = news.events[-1]["seq"] if news.events else one.after
        _deliver(followers, lambda one: one.put(batch))


def _deliver(followers: Sequence[Follower], call: Callable[[Follower], None]) -> None:
    """Call ``call`` with each follower on its own event loop; one whose loop has ended is forgotten."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Follower]] = defaultdict(list)
    for one in followers:
        by_loop[one.loop].append(one)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_call, theirs, call)
        except RuntimeError:  # closed
            for one in theirs:
                one.close()


def _call(followers: Sequence[Follower], call: Callable[[Follower], None]) -> None:
    for one in followers:
        call(one)


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _delta_of(item: str) -> dict[str, Any] | None:
    """A delta of the right shape and size; None for whatever else was written there."""
    if len(item) > MAX_DELTA_CHARS:
        return None
    try:
        found = json.loads(item)
    except (ValueError, RecursionError):
        return None
    kinds = {"run": str, "step": str, "n": int, "data": dict}
    sound = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if sound else None
