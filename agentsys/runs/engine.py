"""The loop of a worker: claim, do, record, go on with the same run, wake whoever is next."""

import logging
import reprlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agentsys.core import db
from agentsys.core.errors import AgentSysError, GoalNotPlannable, LeaseLost, NotFound, PlanInvalid

from . import dispatch, handlers, leases
from .leases import Held
from .store import claims, complete, decisions, moves
from .store.claims import Claim, Completion, Result
from .store.create import steps_of
from .store.decisions import Question

logger = logging.getLogger(__name__)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_TASKS = {"tool": "execute", "wait": "system", "ask": "system", "delegate": "system"}


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """An attempt, as a task monitor shows it; ``task`` is the Celery task it counts as."""

    id: str
    task: str
    run: str
    step: str
    tool: str
    number: int


class Observer(Protocol):
    """Is told of every attempt; must be quick and never raise."""

    def started(self, attempt: AttemptInfo) -> None: ...

    def ended(self, attempt: AttemptInfo, *, ok: bool, result: str, runtime_s: float) -> None: ...


def drain(
    lane: str, *, owner: str, observer: Observer, slice_s: float, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Do what ``lane`` has due, run by run, for at most ``slice_s`` seconds and the step then under way.

    Args:
        stopping: asked before each claim; once true, nothing more is claimed.

    Returns:
        How many attempts were done; 0 when nothing was due: the bell rang twice, or someone was faster.
    """
    done, end = 0, time.monotonic() + slice_s

    def more() -> bool:
        return time.monotonic() < end and not stopping()

    claim = claims.claim(lane, owner=owner) if more() else None
    while claim is not None:
        done += 1
        completion = _attempt(claim, observer, more=more)
        dispatch.wake(completion.lanes)
        claim = completion.next
        if claim is None and more():
            claim = claims.claim(lane, owner=owner)
    db.release()
    return done


def _attempt(claim: Claim, observer: Observer, *, more: Callable[[], bool]) -> Completion:
    info = AttemptInfo(
        str(claim.claim_token), _TASKS.get(claim.kind, "plan"), str(claim.run_id), claim.key, claim.tool, claim.attempt
    )
    held = leases.hold(claim)
    observer.started(info)
    begun = time.monotonic()
    ok, text = True, ""
    try:
        outcome = _do(held)
        text = _short(outcome)
        with db.lent():  # away for longer than we persist: the step is tried again, not failed
            return _record(held, outcome, claim_next=more())
    except LeaseLost as error:
        ok, text = False, f"fenced: {error.message}"
        return _fenced(claim, error)
    except AgentSysError as error:
        ok, text = False, f"{error.code}: {error.message}"[:500]
        return _failed(held, error)
    except Exception:  # a bug of ours: its text may hold secrets, so only the log gets it
        logger.exception("step %s of run %s failed unexpectedly", claim.key, claim.run_id)
        ok, text = False, AgentSysError.code
        return _failed(held, AgentSysError())
    finally:
        leases.drop(held)
        observer.ended(info, ok=ok, result=text, runtime_s=time.monotonic() - begun)


def _do(held: Held) -> handlers.Outcome:
    with db.lent():
        outcome = handlers.HANDLERS[held.claim.kind](held)
    held.done = True
    return outcome


def _short(outcome: handlers.Outcome) -> str:
    if isinstance(outcome, handlers.Sleep):
        return f"sleeps until {outcome.until}" if outcome.until else f"sleeps {outcome.delay_s:g} s"
    if isinstance(outcome, Question):
        return f"asks a person for {outcome.kind}"
    return _SHORT.repr(outcome.output if isinstance(outcome, Result) else outcome.result.output)


def _record(held: Held, outcome: handlers.Outcome, *, claim_next: bool) -> Completion:
    claim = held.claim
    if isinstance(outcome, Result):
        return complete.complete(claim, outcome, claim_next=claim_next)
    if isinstance(outcome, handlers.Expand):
        return Completion(lanes=moves.expand(claim, outcome.result, steps_of(outcome.plan, outcome.tools)))
    if isinstance(outcome, Question):
        decisions.ask(claim, outcome)
        return Completion()
    moves.sleep(claim, until=outcome.until, delay_s=outcome.delay_s)
    return Completion()


def _fenced(claim: Claim, error: LeaseLost) -> Completion:
    """The result is worthless.  A step that is ours all the same (its gate stayed shut) goes to the next."""
    logger.warning(
        "attempt %d of step %s of run %s was fenced: %s", claim.attempt, claim.key, claim.run_id, error.message
    )
    try:
        return Completion(lanes=moves.give_back(claim.id, claim.run_id, claim.claim_token, why="released"))
    except NotFound:  # deleted
        return Completion()


def _failed(held: Held, error: AgentSysError) -> Completion:
    try:
        return Completion(lanes=moves.fail(held.claim, moves.Fault(error, _reason(held.claim, error))))
    except (LeaseLost, NotFound):
        logger.info("the failure of step %s came after its lease", held.claim.key)
        return Completion()


def _reason(claim: Claim, error: AgentSysError) -> str:
    """The run's reason, should it fail for this."""
    if isinstance(error, GoalNotPlannable | PlanInvalid):
        return "plan"
    return {"tool": "tool", "wait": "error", "ask": "error"}.get(claim.kind, "model")
