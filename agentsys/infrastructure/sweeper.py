"""The upkeep that keeps every run moving, once a second on every worker node.

Jobs are idempotent and guarded by the store, so that any number of sweepers may run at once.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection

from agentsys.core import db, outage, procs
from agentsys.runs import dispatch, retention
from agentsys.runs.store import sweeps
from agentsys.runs.store.moves import Lost

from . import registry

logger = logging.getLogger(__name__)
RING_AFTER_S = 1.0


@dataclass
class Sweeper:
    """One node's sweeper; it remembers only since when it has had contact.

    Leases are judged after one of them has passed in unbroken contact: while PostgreSQL is away nobody
    can renew, so when it is back everybody looks dead (``amnesty``).  ``lost`` is told of every attempt that it
    takes from a worker.
    """

    lost: Lost | None = None
    _contact_since: float = field(default_factory=time.monotonic)
    _ticks: int = 0
    _wheel: retention.Wheel = field(default_factory=retention.Wheel)

    def tick(self) -> None:
        """Do what is due.  Never raises: what failed is tried again a second later."""
        jobs: list[Callable[[], object]] = [
            self._wake, self._reap_dead, self._reap_expired, sweeps.end_past_deadline, self._expire_questions,
            self._join_children, sweeps.cancel_orphans, self._follow_parents, self._mind_budgets,
            self._mind_credentials, self._admit, self._wheel.turn,
        ]  # fmt: skip
        if self._ticks % 30 == 0:
            jobs += [sweeps.repair_stuck, sweeps.recount_slots, sweeps.fold_settled, registry.forget_old]
        self._ticks += 1
        for job in jobs:
            self._guarded(job)
        db.release()

    def _guarded(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:  # upkeep must go on whatever one job meets
            name = getattr(job, "__name__", job)
            if outage.is_busy(error):
                logger.warning("upkeep waited in vain for a lock: %s; it is tried again", name)
            else:
                logger.exception("upkeep failed: %s", name)
            self._judge(error)
            connection.close()

    def _judge(self, error: Exception) -> None:
        """Only a lost connection breaks the contact: a job that fails for a reason of its own must not end reaping."""
        raw = connection.connection
        if outage.is_lost(error) or (raw is not None and raw.closed):
            self._contact_since = time.monotonic()

    def _wake(self) -> None:
        dispatch.wake(sorted({*sweeps.wake_sleepers(), *sweeps.due_lanes(older_than_s=RING_AFTER_S)}))

    def _admit(self) -> None:
        dispatch.wake([*sweeps.fit(), *sweeps.admit()])

    def _expire_questions(self) -> None:
        dispatch.wake(sweeps.expire_questions())

    def _join_children(self) -> None:
        dispatch.wake(sweeps.join_children())

    def _follow_parents(self) -> None:
        dispatch.wake(sweeps.follow_parents())

    def _mind_budgets(self) -> None:
        dispatch.wake(sweeps.mind_budgets())

    def _mind_credentials(self) -> None:
        dispatch.wake(sweeps.release_credentials())

    def _reap_dead(self) -> None:
        dispatch.wake(sweeps.reap_dead(procs.is_dead_here, lost=self.lost))

    def _reap_expired(self) -> None:
        if time.monotonic() - self._contact_since >= settings.LEASE_S:
            dispatch.wake(sweeps.reap_expired(lost=self.lost))


def due_lanes() -> list[str]:
    """Lanes whose bell seems to be lost."""
    return sweeps.due_lanes(older_than_s=RING_AFTER_S)
