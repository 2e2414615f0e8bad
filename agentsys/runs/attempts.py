"""One attempt: a claim being done, the record of whatever came of it but a result, and who is told of it."""

import logging
import reprlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentsys.core import db
from agentsys.core.errors import AgentSysError, GoalNotPlannable, LeaseLost, LoopDetected, NotFound, PlanInvalid

from . import dispatch, handlers, leases
from .delegation import Delegated
from .leases import Held
from .store import acting, children, decisions, expansion, moves, verdicts
from .store.claims import Claim, Result
from .store.create import calls_of, steps_of
from .store.decisions import Question
from .verifying import Verified

logger = logging.getLogger(__name__)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_TASKS = {"tool": "execute", "wait": "system", "ask": "system", "delegate": "system"}
#: What a handler gives that is no result.
_Moves = handlers.Expand | handlers.Acting | handlers.Paid | handlers.Sleep | Question | Verified | Delegated


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


class Attempt:
    """One claim being done: the handler's work, its record, and what the observer is told of it."""

    def __init__(self, held: Held, observer: Observer) -> None:
        self.held, self._observer = held, observer
        self._info = _info(held.claim)
        self.runtime_s = self._begun = 0.0
        self._is_over = False

    def do(self, *, patience_s: float | None = None) -> Result | handlers.Waiting | None:
        """The result that is still to be recorded; None: all that came of it is.

        Args:
            patience_s: how long a call that waits on the event loop is waited for; one that takes longer is given
                back, to go on with :meth:`land`.
        """
        self.held.begin()
        self._observer.started(self._info)
        self._begun = time.monotonic()
        return self._go_on(lambda: self._called(patience_s))

    def _called(self, patience_s: float | None) -> handlers.Outcome:
        outcome = handlers.HANDLERS[self.held.claim.kind](self.held)
        if isinstance(outcome, handlers.Waiting) and (patience_s is None or outcome.call.is_over(within_s=patience_s)):
            return outcome.result()
        return outcome

    def land(self, waiting: handlers.Waiting) -> Result | None:
        """Go on with a call that is over."""
        outcome = self._go_on(waiting.result)
        assert not isinstance(outcome, handlers.Waiting)
        return outcome

    def _go_on(self, work: Callable[[], handlers.Outcome]) -> Result | handlers.Waiting | None:
        held = self.held
        try:
            with db.lent(), held.stop.covering():
                outcome = work()
            self.runtime_s = time.monotonic() - self._begun
            if isinstance(outcome, handlers.Waiting):
                return outcome
            held.done = True
            if isinstance(outcome, Result):
                return outcome
            with db.lent():  # away for longer than we persist: the step is tried again, not failed
                dispatch.wake(_moved(held, outcome))
        except Exception as error:
            self.runtime_s = time.monotonic() - self._begun
            self.failed(error)
        except BaseException:  # the thread ends
            self.abandon()
            raise
        else:
            self._over(ok=True, text=_short(outcome))
        return None

    def succeeded(self, result: Result) -> None:
        self._over(ok=True, text=_SHORT.repr(result.output))

    def failed(self, error: Exception) -> None:
        """Record a failure, or that the claim is no longer ours."""
        if not isinstance(error, AgentSysError):  # a bug of ours: its text may hold secrets, so only the log gets it
            logger.error("step %s of run %s failed unexpectedly", *self._name(), exc_info=error)
            error = AgentSysError()
        fenced = isinstance(error, LeaseLost)
        try:
            lanes = _fenced(self.held.claim, error) if isinstance(error, LeaseLost) else _failed(self.held, error)
        finally:  # what cannot be recorded is not ours to hold on to: its lease runs out, and others see to it
            self._over(ok=False, text=f"{'fenced' if fenced else error.code}: {error.message}"[:500])
        dispatch.wake(lanes)

    def abandon(self) -> None:
        """Nothing will be recorded by us; of no effect on an attempt that is over."""
        self._over(ok=False, text="abandoned: its worker could not record it")

    def _name(self) -> tuple[str, object]:
        return self.held.claim.key, self.held.claim.run_id

    def _over(self, *, ok: bool, text: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        leases.drop(self.held)
        self._observer.ended(self._info, ok=ok, result=text, runtime_s=self.runtime_s)


def _info(claim: Claim) -> AttemptInfo:
    task = _TASKS.get(claim.kind, "plan")
    return AttemptInfo(str(claim.claim_token), task, str(claim.run_id), claim.key, claim.tool, claim.attempt)


def _moved(held: Held, outcome: _Moves) -> Sequence[str]:
    claim = held.claim
    if isinstance(outcome, handlers.Expand):
        return expansion.expand(claim, outcome.result, steps_of(outcome.plan, outcome.tools), held.spending)
    if isinstance(outcome, handlers.Acting):
        decided = outcome.calls
        steps = calls_of(decided.steps, outcome.tools, caller=claim.key, turn=outcome.turn, said=decided.said)
        return acting.call(claim, outcome.result, steps, held.spending)
    if isinstance(outcome, handlers.Paid):
        return expansion.succeed(claim, outcome.result, held.spending)
    if isinstance(outcome, Question):
        decisions.ask(claim, outcome)
        return ()
    if isinstance(outcome, Verified):
        return verdicts.done(claim, outcome.result)
    if isinstance(outcome, Delegated):
        return children.wait_for_child(claim, child_run_id=outcome.child_run_id)
    moves.sleep(claim, until=outcome.until, delay_s=outcome.delay_s)
    return ()


def _short(outcome: _Moves) -> str:
    if isinstance(outcome, handlers.Sleep):
        return f"sleeps until {outcome.until}" if outcome.until else f"sleeps {outcome.delay_s:g} s"
    if isinstance(outcome, Question):
        return f"asks a person for {outcome.kind}"
    if isinstance(outcome, Delegated):
        return "waits for its child"
    if isinstance(outcome, handlers.Acting):
        return f"calls {', '.join(step.tool or step.kind for step in outcome.calls.steps)}"
    return _SHORT.repr(outcome.result.output)


def _fenced(claim: Claim, error: LeaseLost) -> Sequence[str]:
    """The result is worthless.  A step that is ours all the same (its gate stayed shut) goes to the next."""
    logger.warning(
        "attempt %d of step %s of run %s was fenced: %s", claim.attempt, claim.key, claim.run_id, error.message
    )
    return give_back(claim)


def give_back(claim: Claim) -> Sequence[str]:
    """Let the next have a claim, uncharged; the lanes to ring."""
    try:
        return moves.give_back(claim.id, claim.run_id, claim.claim_token, why="released")
    except NotFound:  # deleted
        return ()


def _failed(held: Held, error: AgentSysError) -> Sequence[str]:
    try:
        return moves.fail(held.claim, moves.Fault(error, _reason(held.claim, error), held.spending))
    except (LeaseLost, NotFound):
        logger.info("the failure of step %s came after its lease", held.claim.key)
        return ()


def _reason(claim: Claim, error: AgentSysError) -> str:
    """The run's reason, should it fail for this."""
    if isinstance(error, GoalNotPlannable | PlanInvalid):
        return "plan"
    if isinstance(error, LoopDetected):
        return "policy"
    return {"tool": "tool", "wait": "error", "ask": "error", "delegate": "error"}.get(claim.kind, "model")
