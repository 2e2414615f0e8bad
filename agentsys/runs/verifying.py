"""Asking a tool's check what became of a call that nobody saw the end of, before the call is made again."""

from dataclasses import dataclass
from typing import Any

from agentsys.core.errors import OutcomeUnknown, ToolFailed
from agentsys.tools import registry, runner
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import ToolSpec

from .store import verdicts
from .store.claims import Claim, Result
from .vault import Entered

OUTCOMES = ("done", "not_done", "unknown")


@dataclass(frozen=True, slots=True)
class Verified:
    """The call has happened, and this came of it."""

    result: Result


def ask(claim: Claim, spec: ToolSpec, entered: Entered, ctx: ToolContext) -> Verified | None:
    """What the check of ``spec`` says of this very call; None: it did not happen, and that is recorded.

    Raises:
        OutcomeUnknown: it cannot tell.
        ToolFailed: there is no check any more; or the call did not happen and its tries are used up.
        LeaseLost: the step is no longer ours.
    """
    if not spec.verify:
        raise ToolFailed(f"{spec.name} has no check any more.", tool=spec.name)
    check = registry.get(spec.verify)
    asked = {name: value for name, value in entered.arguments.items() if name in check.parameters}
    outcome, result = _read(check, runner.run(check, asked, ctx, hidden=entered.hidden))
    if outcome == "done":
        return Verified(Result(result))
    if outcome == "unknown":
        raise OutcomeUnknown(f"{check.name} cannot tell whether the call happened.", tool=spec.name, check=check.name)
    verdicts.not_done(claim)
    if claim.failures >= claim.max_attempts:
        raise ToolFailed("The call did not happen, and its tries are used up.", tool=spec.name, check=check.name)
    return None


def _read(check: ToolSpec, answer: Any) -> tuple[str, Any]:
    if isinstance(answer, dict) and answer.get("outcome") in OUTCOMES and set(answer) <= {"outcome", "result"}:
        return answer["outcome"], answer.get("result")
    raise ToolFailed(f"{check.name} gave no verdict: {{'outcome': 'done', 'result': …}}, not_done or unknown.")
