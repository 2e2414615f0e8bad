"""The claims this process holds: renewed by one statement for all, ended when their time is over.

The heartbeat runs in the process that does the work, on its own thread and connection.
"""

import logging
import threading
import time
from dataclasses import dataclass
from uuid import UUID

from agentsys.core.errors import AgentSysError, LeaseLost, OutcomeUnknown, StepTimeout
from agentsys.tools.context import ToolContext

from .store import claims, moves
from .store.claims import Claim

logger = logging.getLogger(__name__)
#: A handler gets this long past its step's time to come back by itself.
GRACE_S = 1.0


@dataclass(slots=True)
class Held:
    """A claim in the hands of a thread of this process.

    ``deadline_at`` is in ``time.monotonic()`` seconds.  ``lost`` and ``cancelled`` are set by the heartbeat
    and read by the thread; ``gate_open`` says that an unsafe call may have started, ``done`` that the work is
    over and only its record is missing: that may take longer than the step had, while PostgreSQL is away.
    """

    claim: Claim
    deadline_at: float
    lost: bool = False
    cancelled: bool = False
    gate_open: bool = False
    done: bool = False
    context: ToolContext | None = None

    def is_late(self) -> bool:
        """Whether the work itself is past its time and has not come back."""
        return not self.done and time.monotonic() >= self.deadline_at + GRACE_S

    def ensure(self) -> None:
        """Raise LeaseLost unless this claim may still act; opens the gate before an unsafe call."""
        if self.lost:
            raise LeaseLost(step=self.claim.key)
        if self.claim.effect == "unsafe" and not self.gate_open:
            if not claims.open_gate(self.claim):
                raise LeaseLost("The call was not started: the lease is nearly gone or the run stops.")
            self.gate_open = True

    def judged(self, error: AgentSysError) -> AgentSysError:
        """The error as it counts.

        After an unsafe call may have started only a plain no is believed: "try again" is not ours to say,
        and an exception that nobody expected does not tell whether the call had been made before it.
        """
        unexpected = type(error) is AgentSysError or "exception" in error.data
        if self.gate_open and (error.retryable or unexpected) and error.data.get("sent") is not False:
            return OutcomeUnknown(error.message, **error.data)
        return error


_held: dict[UUID, Held] = {}
_lock = threading.Lock()


def hold(claim: Claim) -> Held:
    """Take a claim into this process's heartbeat."""
    held = Held(claim, deadline_at=time.monotonic() + claim.timeout_s)
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
    due = [one for one in held() if not one.lost and not one.is_late()]
    if due:
        kept = claims.heartbeat([(one.claim.id, one.claim.claim_token) for one in due])
        for one in due:
            _told(one, kept.get(one.claim.claim_token))
    tokens = [one.claim.claim_token for one in held()]
    for row in claims.orphaned(owner, tokens):
        moves.give_back(row["id"], row["run_id"], row["claim_token"], why="released")


def _told(one: Held, cancelled: bool | None) -> None:
    if cancelled is None:
        if one.claim.claim_token in _held:  # not ended in the meantime
            one.lost = True
            logger.warning("step %s of run %s was taken from us", one.claim.key, one.claim.run_id)
    elif cancelled:
        one.cancelled = True
    if one.context is not None:
        one.context.cancelled = one.cancelled or one.lost


def overdue() -> bool:
    """Fail the steps that are past their time and have not come back; True when there were any.

    Their threads cannot be stopped: a prefork child ends itself then, a thread's late result is fenced.
    """
    late = [one for one in held() if not one.lost and one.is_late()]
    for one in late:
        if one.context is not None:
            one.context.cancelled = True
        _time_out(one)
        one.lost = True  # only now: what the database refused is tried again at the next beat
    return bool(late)


def _time_out(one: Held) -> None:
    error = StepTimeout(f"The step passed its limit of {one.claim.timeout_s:g} s.", timeout_s=one.claim.timeout_s)
    try:
        moves.fail(one.claim, moves.Fault(one.judged(error), "tool"))
    except LeaseLost:
        logger.info("step %s was taken before its time-out", one.claim.key)


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
