"""A fork: a new run from any step of another one, with overrides; what that step does not touch is kept."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentsys.accounts.models import User
from agentsys.agents import definition
from agentsys.agents.plans import parse_plan
from agentsys.core import db
from agentsys.core.errors import InvalidInput, PlanInvalid
from agentsys.core.faults import Fault, fault
from agentsys.core.sanitize import clean
from agentsys.tools.mcp import catalogue

from . import control, services, submission
from .models import Run
from .pinned import allowed_tools
from .planned import as_planned
from .recorded import RECORDED
from .states import StepKind, StepStatus
from .store import derive
from .store.change import jsonb
from .store.create import planning_step
from .store.derive import Derived
from .submission import Submission

EFFECTS = ("recorded", "live")
#: Kinds whose arguments can be overridden.
_WITH_ARGUMENTS = (StepKind.TOOL, StepKind.WAIT, StepKind.ASK, StepKind.DELEGATE)
#: How a parsed plan names the place of a fault.
_PLACE = re.compile(r"steps\[(\d+)\]\.?(.*)")


@dataclass(frozen=True, slots=True)
class Fork:
    """Where to fork, and what is other there.  ``input`` and ``model`` hold one value, or none: as it was."""

    from_step: str
    input: Sequence[Any] = ()
    model: Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    effects: str = "recorded"


def fork(run: Run, request: Fork, *, user: User | None = None, idempotency_key: str = "") -> tuple[Run, bool]:
    """A new run of what is downstream of ``request.from_step``, of it, and of what had not succeeded.

    All other steps are kept as they ended.  With effects ``recorded``, calls that did something in the original are
    replayed instead of being made again.

    Returns:
        The new run, and whether it was there before (by the key).

    Raises:
        InvalidInput: ``errors`` lists every fault of the request; or the key is none.
        PayloadTooLarge: the input is.
        InvalidTransition: the run's steps are gone.
        IdempotencyKeyReused: the key belongs to another request.
    """
    asked = {name: getattr(request, name) for name in Fork.__slots__}
    digest = control.digest_of("fork", run.pk, asked)
    if known := control.known_by(run, idempotency_key, digest):
        return known, True
    run = services.get(run.workspace_id, run.pk)  # as it is now, with all its columns
    if request.input:
        submission.check(Submission(agent="", goal="fork", input=request.input[0]))
    derived = _derived(run, request, derive.origin_steps(run.pk))
    other: dict[str, Any] = {"forked_from_step": request.from_step, "effects": request.effects}
    if request.input:
        other["input"] = jsonb(clean(request.input[0]))
    if request.model:
        other["model"] = request.model[0]
    told = {"fork_of": str(run.pk), "from_step": request.from_step, "effects": request.effects}
    return control.make(run, derived, user=user, key=idempotency_key, digest=digest, told=told, **other)


def _derived(run: Run, request: Fork, steps: Sequence[db.Row]) -> Derived:
    """
    Raises:
        InvalidInput: with every fault.
    """
    by_key = {step["key"]: step for step in steps}
    faults = [fault for model in request.model for fault in definition.model_faults(model)]
    if request.effects not in EFFECTS:
        faults.append(fault("effects", "bad_value", "effects is recorded or live."))
    if request.from_step not in by_key:
        faults.append(fault("from_step", "unknown_step", "The run has no such step."))
        raise _invalid(faults)
    redo = downstream(steps, request.from_step)
    faults += _override_faults(request.arguments, by_key, redo)
    if not faults and request.arguments:
        steps, faults = _overridden(run, steps, request.arguments)
    if faults:
        raise _invalid(faults)
    if by_key[request.from_step]["kind"] == StepKind.PLAN:
        return derive.anew(planning_step(), files_of=run.pk)
    done = {step["key"] for step in steps if step["status"] == StepStatus.SUCCEEDED}
    steps = [
        step | {"effect": _effect(run, step, replayed=request.effects == RECORDED and step["key"] in redo & done)}
        for step in steps
    ]
    return derive.derive(run.pk, derive.without_calls(steps, redo, from_step=request.from_step), redo=redo)


def downstream(steps: Sequence[db.Row], key: str) -> set[str]:
    """A step and all that depend on it, directly or not; of a planning step, all that it may have planned."""
    found = {key}
    planned_by = {step["key"] for step in steps if step["kind"] == StepKind.PLAN}
    for step in steps:  # in plan order; a parent may stand after its child, so until nothing is new
        if key in planned_by and step["kind"] != StepKind.PLAN:
            found.add(step["key"])
    size = 0
    while size < len(found):
        size = len(found)
        found |= {step["key"] for step in steps if found & set(step["depends_on"])}
    return found


def _effect(run: Run, step: db.Row, *, replayed: bool) -> str:
    """What the new run's step may do: a call that did something is replayed, or it is live (again)."""
    does = step["effect"] != "pure" or step["kind"] == StepKind.DELEGATE
    if replayed and does:
        return RECORDED
    if step["effect"] != RECORDED:
        return str(step["effect"])
    return catalogue.effect_of(step["tool"], run.workspace_id) if step["tool"] else "pure"


# --- Overrides --------------------------------------------------------------------------
def _override_faults(arguments: Mapping[str, Any], by_key: Mapping[str, db.Row], redo: set[str]) -> list[Fault]:
    faults = []
    for key, given in arguments.items():
        where = f"arguments.{key[:64]}"
        if key not in by_key:
            faults.append(fault(where, "unknown_step", "The run has no such step."))
        elif by_key[key]["caller"]:
            faults.append(fault(where, "field_not_allowed", "Its arguments are its caller's; fork from that."))
        elif key not in redo:
            message = "This step is not done again by a fork from there; fork from it, or from a step before it."
            faults.append(fault(where, "step_kept", message))
        elif by_key[key]["kind"] not in _WITH_ARGUMENTS:
            faults.append(fault(where, "field_not_allowed", f"A step of kind {by_key[key]['kind']} has no arguments."))
        elif not isinstance(given, dict):
            faults.append(fault(where, "type", "Arguments are an object."))
    return faults


def _overridden(run: Run, steps: Sequence[db.Row], arguments: Mapping[str, Any]) -> tuple[list[db.Row], list[Fault]]:
    """The steps with their new arguments and what these depend on; or what is wrong with them, as in a plan."""
    planned = [step for step in steps if step["kind"] != StepKind.PLAN and not step["caller"]]
    raw = [as_planned(step) | {"arguments": arguments.get(step["key"], step["arguments"])} for step in planned]
    try:
        plan = parse_plan({"steps": raw}, tools=allowed_tools(run.agent_version), max_steps=len(raw))
    except PlanInvalid as invalid:
        faults = _mapped(invalid.data["errors"], [step["key"] for step in planned], arguments)
        if faults:
            return [], faults
        return _with(steps, arguments, {}), []  # what cannot be planned any more is not what was overridden
    return _with(steps, arguments, {step.key: list(step.depends_on) for step in plan.steps}), []


def _with(steps: Sequence[db.Row], arguments: Mapping[str, Any], needs: Mapping[str, list[str]]) -> list[db.Row]:
    return [
        step | {"arguments": arguments[step["key"]], "depends_on": needs.get(step["key"], step["depends_on"])}
        if step["key"] in arguments
        else step
        for step in steps
    ]


def _mapped(errors: Sequence[Fault], keys: Sequence[str], arguments: Mapping[str, Any]) -> list[Fault]:
    """Faults of a whole plan as faults of the overrides; others are none of this request's."""
    found = []
    for error in errors:
        place = _PLACE.fullmatch(error["path"])
        key = keys[int(place[1])] if place else ""
        if place is None or key in arguments:
            rest = place[2].removeprefix("arguments").strip(".") if place else ""
            found.append(error | {"path": ".".join(part for part in ("arguments", key, rest) if part)})
    return found


def _invalid(faults: list[Fault]) -> InvalidInput:
    return InvalidInput("The run cannot be forked like this; see errors.", errors=faults)
