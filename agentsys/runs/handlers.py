"""What each kind of step does.  No transaction and no connection is held while one works.

A handler takes a held claim and returns what is to be recorded of it; it raises AgentSysError to fail.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.conf import settings

from agentsys.agents import acting, answer, planner
from agentsys.agents.plan_fields import MAX_WAIT_S
from agentsys.agents.plan_types import Plan
from agentsys.core import db
from agentsys.core.errors import InvalidInput
from agentsys.core.sanitize import clean
from agentsys.tools import runner
from agentsys.tools.context import ToolContext
from agentsys.tools.mcp import catalogue
from agentsys.tools.registry import ToolSpec

from . import acted, asking, delegation, dispatch, files, loops, planned, recorded, trust, vault, verifying
from .delegation import Delegated
from .leases import Held
from .metering import Meter
from .models import Run
from .pinned import allowed_tools, cache_s, fallbacks_of, max_fan_out, max_steps, model_of, prompts_of
from .recorded import RECORDED
from .rendering import outputs_of, rendered
from .store import messages, payloads
from .store.claims import Claim, Result
from .store.decisions import Question
from .store.unknown import VERIFY
from .verifying import Verified


@dataclass(frozen=True, slots=True)
class Expand:
    """The step's output is more steps."""

    result: Result
    plan: Plan
    tools: Mapping[str, ToolSpec]


@dataclass(frozen=True, slots=True)
class Acting:
    """The step waits for calls, its ``turn``-th ones."""

    result: Result
    calls: acting.Calls
    tools: Mapping[str, ToolSpec]
    turn: int


@dataclass(frozen=True, slots=True)
class Paid:
    """A result whose model calls hold reservations: they are settled with its record."""

    result: Result


@dataclass(frozen=True, slots=True)
class Sleep:
    """The step goes on at a time."""

    until: datetime | None = None
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The call has been made; if it waits on the event loop, no thread need wait with it."""

    call: runner.Call

    def result(self) -> Result:
        """Wait for it; raises what the tool did."""
        return Result(self.call.result())


Outcome = Result | Waiting | Expand | Acting | Paid | Sleep | Question | Verified | Delegated


def tool(held: Held) -> Outcome:
    """Run a tool on its rendered arguments; where an approval of these is needed and not there, ask for it.

    Where nobody knows what became of an earlier call, its check is asked first.
    """
    claim = held.claim
    spec = catalogue.get(claim.tool, claim.workspace_id, planned=claim.effect)
    template = _arguments(claim)
    arguments = rendered(claim.run_id, template)
    if claim.effect == RECORDED:
        return recorded.replay(claim, arguments)
    tainted = trust.tainted(claim, template)
    needs_word = claim.approval or spec.approval or bool(tainted)
    if needs_word:
        arguments = asking.settled(arguments)
    call = vault.Call.of(spec, template, arguments)
    if claim.reason == VERIFY and (verified := _verified(held, call)):
        return verified
    loops.check_call(claim, arguments)
    if needs_word and (question := asking.about_call(claim, spec, arguments, skip=call.skip, tainted=tainted)):
        return question
    entered = vault.enter(claim, call)
    held.context = _context(held, _with_lease(held.ensure), entered)
    db.release()
    return Waiting(runner.start(spec, entered.arguments, held.context, hidden=entered.hidden))


def _arguments(claim: Claim) -> Any:
    """As planned, with references; costs a query where they are large."""
    return payloads.unpacked(claim.arguments, claim.workspace_id) or {}


def _verified(held: Held, call: vault.Call) -> Verified | None:
    entered = vault.enter(held.claim, call)
    held.context = _context(held, _with_lease(held.ensure_lease), entered)
    db.release()
    verified = verifying.ask(held.claim, call.spec, entered, held.context)
    held.begin()  # the call has the step's whole time
    return verified


def _context(held: Held, ensure_lease: Callable[[], None], entered: vault.Entered) -> ToolContext:
    claim = held.claim
    return ToolContext(
        run_id=str(claim.run_id),
        step_key=claim.key,
        idempotency_key=claim.idempotency_key,
        files=entered.masked(files.StepFiles(claim)),
        secret=entered.secret,
        deadline_at=held.deadline_at,
        ensure_lease=ensure_lease,
        cancelled=held.cancelled,
        output_of=acted.reader(claim.run_id),
    )


def _with_lease(ensure: Callable[[], None]) -> Callable[[], None]:
    def ensured() -> None:
        with db.lent():
            ensure()

    return ensured


def plan(held: Held) -> Outcome:
    """Turn the run's goal into steps; in a run that is under way, into others than those that have not started."""
    claim = held.claim
    run = Run.objects.select_related("agent_version").get(pk=claim.run_id)
    version = run.agent_version
    tools = dict(allowed_tools(version))
    if run.effects == RECORDED:
        tools = recorded.marked(run.pk, tools)
    names = [entry["name"] for entry in files.listing(run.pk)]
    told = messages.heard(claim)
    so_far = None if claim.arguments is None else planned.progress(claim, run, told)
    db.release()
    made, usage = planner.make_plan(
        run.goal,
        model=model_of(run),
        tools=tools,
        input=run.input,
        files=names,
        messages=[one.text for one in told],
        prompts=prompts_of(version),
        # What the run's own limit has no room for is kept, see expansion.expand.
        max_steps=max_steps({}) - (len(so_far.taken) if so_far else 0),
        max_fan_out=max_fan_out(version),
        timeout_s=settings.MODEL_TIMEOUT_S,
        progress=so_far,
        ask=_meter(held, run).ask,
    )
    if so_far is not None:
        with db.lent():
            loops.check_plan(run.pk, made.steps, so_far.done_keys)
    return Expand(Result({"steps": [step.key for step in made.steps]}, usage), made, tools)


def answering(held: Held) -> Outcome:
    """Have the model answer the goal from what the steps before gave."""
    claim = held.claim
    run = Run.objects.select_related("agent_version").get(pk=claim.run_id)
    outputs = outputs_of(claim.run_id, claim.depends_on)
    objective = rendered(claim.run_id, claim.objective) or run.goal
    told = messages.read(claim)
    db.release()
    meter = _meter(held, run)
    output, usage = answer.make_answer(
        objective,
        model=model_of(run),
        outputs=outputs,
        messages=told,
        prompts=prompts_of(run.agent_version),
        output_schema=run.output_schema,
        timeout_s=settings.MODEL_TIMEOUT_S,
        told=_shown(claim),
        ask=meter.ask,
    )
    result = Result(clean(output, max_bytes=settings.MAX_OUTPUT_BYTES), usage)
    return Paid(result) if meter.holds else result


def act(held: Held) -> Outcome:
    """Have the model take a turn: its calls become steps that this one waits for, or it is done."""
    claim = held.claim
    run = Run.objects.select_related("agent_version").get(pk=claim.run_id)
    task = acted.task(claim, run, _arguments(claim))
    db.release()
    meter = _meter(held, run)
    decided, usage = acting.decide(
        task,
        model=model_of(run),
        timeout_s=settings.MODEL_TIMEOUT_S,
        check=acted.checked(run.pk),
        ask=meter.ask,
    )
    if isinstance(decided, acting.Calls):
        return Acting(Result(None, usage), decided, task.tools, task.history.turns + 1)
    result = Result(clean(decided.output, max_bytes=settings.MAX_OUTPUT_BYTES), usage)
    return Paid(result) if meter.holds else result


def _meter(held: Held, run: Run) -> Meter:
    return Meter(held, fallbacks_of(run), cache_s=cache_s(run.agent_version))


def _shown(claim: Claim) -> Callable[[str], None]:
    """Shows those who follow the run what the model writes, piece by piece."""
    numbers = count()
    return lambda text: dispatch.delta(claim.run_id, claim.key, next(numbers), {"text": text})


def wait(held: Held) -> Outcome:
    """Sleep in PostgreSQL until the time has come; the second attempt finds that it has."""
    claim = held.claim
    if claim.reason == "timer":
        return Result({"waited_until": claim.available_at.isoformat() if claim.available_at else None})
    arguments = rendered(claim.run_id, _arguments(claim))
    if "until" in arguments:
        return Sleep(until=_moment(arguments["until"]))
    seconds = arguments.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_WAIT_S:
        raise InvalidInput(f"seconds must be a number from 0 to {MAX_WAIT_S:g}.", seconds=repr(seconds)[:100])
    return Sleep(delay_s=float(seconds))


def ask(held: Held) -> Outcome:
    """Put the question to a person; the answer is the step's output, and no second attempt is needed."""
    claim = held.claim
    arguments = _arguments(claim)
    text = rendered(claim.run_id, claim.objective or arguments.get("question", ""))
    return asking.for_answer(text, arguments.get("schema"))


def delegate(held: Held) -> Outcome:
    """Start a child run, or find the one that an earlier attempt has started; its end is the step's."""
    claim = held.claim
    given = recorded.arguments_of(claim.run_id, claim.kind, _arguments(claim), claim.objective)
    if claim.effect == RECORDED:
        return recorded.replay(claim, given)
    return delegation.start(claim, delegation.request_of(**given))


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput("until must be an ISO 8601 time.", until=repr(text)[:100]) from None
    if moment > datetime.now(UTC) + timedelta(seconds=MAX_WAIT_S):
        raise InvalidInput("until is more than a year away.", until=text)
    return moment


HANDLERS: dict[str, Callable[[Held], Outcome]] = {
    "tool": tool,
    "plan": plan,
    "act": act,
    "answer": answering,
    "wait": wait,
    "ask": ask,
    "delegate": delegate,
}
