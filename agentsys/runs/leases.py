"""The claims this process holds: renewed by one statement for all, ended when their time is over.

The heartbeat runs in the process that does the work, on its own thread and connection.
"""

import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from agentsys.core import loop
from agentsys.core.errors import DatabaseUnavailable, LeaseLost, NotFound, StepTimeout
from agentsys.tools.context import ToolContext

from . import dispatch
from .store import claims, moves
from .store.claims import Claim
from .store.reservations import Spending

logger = logging.getLogger(__name__)
#: A handler gets this long past its step's time to come back by itself.
GRACE_S = 1.0
#: A call that learns of a cancel gets this long to end by itself; then its connection is closed.
CUT_AFTER_S = 0.3
#: The share of a lease within which its holder still acts on it; the rest is for clocks and slow networks.
TRUSTED = 0.75
#: Effects that open the gate.
GATED = ("unsafe", "verifiable")


@dataclass(slots=True)
class Held:
    """A claim in the hands of a thread of this process.

    ``deadline_at`` and ``renewed_at`` (the lease, last) are in ``time.monotonic()`` seconds.  ``lost`` and
    ``cancelled`` (with its time) are set by the heartbeat and read by the thread, ``stop`` ends a call that
    waits on the event loop; ``gate_open`` says that an unsafe call may
    have started, ``done`` that the work is over and only its record is missing: that may take longer than
    the step had, while PostgreSQL is away; ``spending`` is what its model calls have used, None before any.
    """

    claim: Claim
    deadline_at: float = math.inf  # until it is begun
    renewed_at: float = field(default_factory=time.monotonic)
    lost: bool = False
    cancelled: bool = False
    cancelled_at: float = math.inf
    stop: loop.Stop = field(default_factory=loop.Stop)
    gate_open: bool = False
    done: bool = False
    context: ToolContext | None = None
    spending: Spending | None = None

    def begin(self) -> None:
        """Its time runs from now."""
        self.deadline_at = time.monotonic() + self.claim.timeout_s

    def is_late(self) -> bool:
        """Whether the work itself is past its time and has not come back."""
        return not self.done and time.monotonic() >= self.deadline_at + GRACE_S

    def ensure(self) -> None:
        """Raise LeaseLost unless this claim may still act; opens the gate before a call that may not be repeated.

        Raises:
            DatabaseUnavailable: nobody can tell; the call was not started.
        """
        self.ensure_lease()
        if self.claim.effect in GATED and not self.gate_open:
            self._open_gate()

    def ensure_lease(self) -> None:
        """Raise LeaseLost unless this claim may still act."""
        if self.lost or self.is_late() or time.monotonic() > self.renewed_at + TRUSTED * settings.LEASE_S:
            raise LeaseLost(step=self.claim.key)

    def _open_gate(self) -> None:
        try:
            opened = claims.open_gate(self.claim)
        except (OperationalError, InterfaceError) as error:
            connection.close()
            raise DatabaseUnavailable(sent=False) from error
        if not opened:
            raise LeaseLost("The call was not started: the lease is nearly gone or the run stops.")
        self.gate_open = True


_held: dict[UUID, Held] = {}
_hinted: set[str] = set()
_lock = threading.Lock()


def hold(claim: Claim) -> Held:
    """Take a claim into this process's heartbeat."""
    held = Held(claim)
    with _lock:
        _held[claim.claim_token] = held
    return held


def drop(held: Held) -> None:
    """Let go: its attempt has ended."""
    with _lock:
        _held.pop(held.claim.claim_token, None)


def held() -> list[Held]:
    """All claims of this process."""
    with _lock:
        return list(_held.values())


def beat(owner: str) -> None:
    """Renew every lease of this process, and learn which are lost and which runs are to stop.

    Steps past their time are not renewed.  One statement, plus one that looks for claims whose answer
    was lost with a connection.
    """
    _ask(held())
    tokens = [one.claim.claim_token for one in held()]
    for row in claims.orphaned(owner, tokens):
        moves.give_back(row["id"], row["run_id"], row["claim_token"], why="released")


def hint(run_ids: Iterable[str]) -> None:
    """Somebody says that these runs stop; of those that we work for, :func:`look` asks."""
    with _lock:
        ours = {str(one.claim.run_id) for one in _held.values()}
        _hinted.update(ours.intersection(run_ids))


def look() -> None:
    """An early heartbeat for the runs that were hinted at.  No hint, no query."""
    with _lock:
        runs = set(_hinted)
        _hinted.clear()
    if runs:
        _ask([one for one in held() if str(one.claim.run_id) in runs])


def cut_off() -> None:
    """End the calls on the event loop of runs that stop, once they had time to end by themselves."""
    for one in held():
        if time.monotonic() >= one.cancelled_at + CUT_AFTER_S and not one.stop.is_set:
            one.stop.set()


def _ask(some: Sequence[Held]) -> None:
    due = [one for one in some if not one.lost and not one.is_late()]
    if not due:
        return
    asked_at = time.monotonic()
    kept = claims.heartbeat([(one.claim.id, one.claim.claim_token) for one in due])
    for one in due:
        _told(one, kept.get(one.claim.claim_token), asked_at)


def _told(one: Held, beat: claims.Beat | None, asked_at: float) -> None:
    if beat is None:
        if one.claim.claim_token in _held:  # not ended in the meantime
            one.lost = True
            logger.warning("step %s of run %s was taken from us", one.claim.key, one.claim.run_id)
    else:
        if beat.cancelled and not one.cancelled:
            one.cancelled, one.cancelled_at = True, time.monotonic()
        one.renewed_at = asked_at if beat.renewed else one.renewed_at
    if one.context is not None:
        one.context.cancelled = one.cancelled or one.lost


def overdue() -> bool:
    """Fail the steps that are past their time and have not come back; True when there were any.

    Their threads cannot be stopped: a prefork child ends itself then, a thread's late result is fenced.
    """
    late = [one for one in held() if not one.lost and one.is_late()]
    stuck = [_time_out(one) for one in late]  # each of them, whatever the first says
    return any(stuck)


def _time_out(one: Held) -> bool:
    """Whether its thread is stuck: the time-out was recorded, or another has the step and ours still works."""
    error = StepTimeout(f"The step passed its limit of {one.claim.timeout_s:g} s.", timeout_s=one.claim.timeout_s)
    if one.context is not None:
        one.context.cancelled = True
    try:
        dispatch.wake(moves.fail(one.claim, moves.Fault(error, "tool")))
        stuck = True
    except (LeaseLost, NotFound):
        logger.info("step %s had ended or was taken before its time-out", one.claim.key)
        stuck = one.claim.claim_token in _held
    one.lost = True  # only now: what the database refused is tried again at the next beat
    return stuck


def release_all(owner: str) -> int:
    """Give back every step uncharged, because this process ends; an unsafe call under way stays unknown.

    Returns:
        How many were given back.
    """
    mine = held()
    for one in mine:
        one.lost = True
        moves.give_back(one.claim.id, one.claim.run_id, one.claim.claim_token, why="released")
    logger.info("released %d steps of %s", len(mine), owner)
    return len(mine)
