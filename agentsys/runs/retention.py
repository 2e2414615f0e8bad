"""How long history is kept, and how it leaves: in batches that hold up nobody, by the sweeper or at once by hand.

Batches and not partitions: a run's rows lie in nine tables that foreign keys tie together, each workspace may have its
own times, and a run is kept while another one was made from it.  A partition could only be dropped when all of that
agreed for everything in it.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from django.conf import settings

from agentsys.accounts.models import User
from agentsys.core.errors import InvalidInput

from .models import Retention
from .services import name_of
from .store import prune
from .store.prune import JOBS, Terms

logger = logging.getLogger(__name__)
#: The sweeper begins a new pass so long after the last one has ended.
REST_S = 300.0
MAX_DAYS = 36_500
#: Who is told to have done what no user has.
SHELL = "the command line"


def policy() -> dict[str, float]:
    """The installation's times in days; 0: for ever, or for keys and history: as long as the run."""
    return {"runs": settings.KEEP_RUNS_DAYS, "history": settings.KEEP_HISTORY_DAYS, "keys": settings.KEEP_KEYS_DAYS}


def set_policy(workspace_id: UUID | None, *, user: User | None = None, **values: Any) -> Retention:
    """A workspace's own times: ``runs_days``, ``history_days``, ``keys_days`` (None: the installation's), ``paused``.

    Args:
        workspace_id: None: only ``paused``, and for the whole installation.

    Raises:
        InvalidInput: that is no number of days.
    """
    for name, value in values.items():
        if name != "paused" and value is not None and not 0 <= value <= MAX_DAYS:
            raise InvalidInput(f"{name} is a number of days up to {MAX_DAYS}; 0 is for ever.")
    found, _ = Retention.objects.update_or_create(workspace_id=cast(Any, workspace_id), defaults=values)
    logger.info("%s set how long history of %s is kept: %s", name_of(user) or SHELL, workspace_id or "all", values)
    return found


def drop_policy(workspace_id: UUID | None, *, user: User | None = None) -> None:
    """A workspace keeps history as the installation does again, and pauses nothing."""
    Retention.objects.filter(workspace=cast(Any, workspace_id)).delete()
    logger.info("%s gave %s the installation's times for history", name_of(user) or SHELL, workspace_id or "all")


def prune_all(terms: Terms) -> Iterator[tuple[str, int]]:
    """Everything that is due, batch by batch, as (job, how many were taken).

    A dry run says what the first pass would take: runs from which others were made go in a later one.
    """
    for job in JOBS:
        taken = 1
        while taken:
            taken = 0
            for count in _pass(job, terms):
                taken += count
                yield job, count
            if job != "runs" or not terms.really:
                break


def _pass(job: str, terms: Terms) -> Iterator[int]:
    after = prune.first(job)
    while after is not None:
        done = prune.batch(job, after, terms)
        if done is None:  # the sweeper's turn
            time.sleep(0.05)
            continue
        yield done.taken
        after = done.after


@dataclass
class Wheel:
    """The sweeper's pass over history: one batch a turn, so that it never keeps other upkeep waiting."""

    _job: int = 0
    _after: Any = field(default_factory=lambda: prune.first(JOBS[0]))
    _again: bool = False  # a run has gone, so another one that it was made from may
    _rests_until: float = 0.0

    def turn(self) -> int:
        """One batch, if it is time for one; how many were taken.  Costs nothing between two passes."""
        if time.monotonic() < self._rests_until:
            return 0
        job = JOBS[self._job]
        done = prune.batch(job, self._after, Terms(policy()))
        if done is None:
            return 0
        self._again = self._again or (job == "runs" and done.taken > 0)
        self._after = done.after
        if done.after is None:
            self._next_pass()
        return done.taken

    def _next_pass(self) -> None:
        if self._again:
            self._again = False
        else:
            self._job = (self._job + 1) % len(JOBS)
            if self._job == 0:
                self._rests_until = time.monotonic() + REST_S
        self._after = prune.first(JOBS[self._job])
