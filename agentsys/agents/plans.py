"""Plans: from JSON that nobody has checked to steps that the engine can run.

CONTRACT's grammar: ``{"steps": [step…], "answer": template}``.  Whoever wrote the plan (a person, a
planner, a model) gets all its faults at once, each with the path where it is (``steps[2].arguments.url``),
a stable code and what to do.  An optional field that is null counts as absent (models fill in nulls), but for
``answer``, where null is an answer, and ``if_failed``, where it is a choice.

Codes: too_many_steps, too_many_children, too_large, too_deep, too_many_references, too_many_dependencies,
too_many_faults, empty_plan, unknown_field, field_not_allowed, missing, type, bad_value, bad_key, reserved_key,
duplicate_key, unknown_tool, argument_missing, argument_unknown, argument_type,
argument_value, reference_syntax, credential_misplaced, unknown_reference, ambiguous_reference,
unknown_dependency, self_dependency, cycle.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from agentsys.agents import plan_delegate, references
from agentsys.agents.plan_act import check_act
from agentsys.agents.plan_ask import check_ask
from agentsys.agents.plan_delegate import check_delegate
from agentsys.agents.plan_faults import Faults, check_storable, shown, type_name
from agentsys.agents.plan_fields import MAX_WAIT_S, Fields, check_wait
from agentsys.agents.plan_graph import layers, terminal_keys
from agentsys.agents.plan_links import Draft, Reading, check_cycles, check_fan_out, collect, link
from agentsys.agents.plan_types import (
    NO_ANSWER,
    NOTHING,
    IfFailed,
    Kind,
    NoAnswer,
    OnError,
    Plan,
    PlanStep,
    Standing,
    to_json,
)
from agentsys.core.errors import PlanInvalid
from agentsys.tools import registry
from agentsys.tools.arguments import Fault
from agentsys.tools.registry import ToolSpec

__all__ = ["NO_ANSWER", "NoAnswer", "Plan", "PlanStep", "Standing", "layers", "parse_plan", "terminal_keys", "to_json"]

MAX_TIMEOUT_S = 86_400
MAX_ATTEMPTS = 20
MAX_TITLE_CHARS = 200
MAX_OBJECTIVE_CHARS = 20_000

_COMMON = frozenset(
    {"key", "kind", "title", "depends_on", "approval", "on_error", "if_failed", "timeout_s", "max_attempts"}
)
#: The kinds that runs.handlers can run, with the fields each may have.
_FIELDS: dict[str, frozenset[str]] = {
    "tool": _COMMON | {"tool", "arguments", "expires_s"},
    "answer": _COMMON | {"objective"},
    "wait": _COMMON | {"arguments"},
    "ask": _COMMON | {"objective", "arguments", "expires_s"},
    "delegate": _COMMON | {"objective", "arguments"},
    "act": _COMMON | {"objective", "arguments"},
}
_ALL_FIELDS = frozenset().union(*_FIELDS.values())
_FOREIGN = {kind: sorted(_ALL_FIELDS - fields) for kind, fields in _FIELDS.items()}


def parse_plan(
    data: Any,
    *,
    tools: Mapping[str, ToolSpec],
    max_steps: int = 1_000,
    max_fan_out: int = 1_000,
    standing: Standing = NOTHING,
) -> Plan:
    """Check a plan and make its steps.

    Args:
        data: JSON from anywhere; it is not changed, and the plan shares its parts.
        tools: What the agent may use, by name.
        max_steps: Limit of steps; a longer plan is refused without looking at them.
        max_fan_out: So many steps may wait for one.
        standing: What is there already, if the plan is added to a run; then it may be an answer without steps.

    Raises:
        PlanInvalid: with ``errors``, every fault as ``{path, code, message}`` (at most about a hundred).

    Costs 20 to 40 µs of a CPU a step, and under a second for the worst of two megabytes.
    """
    reading = Reading(tools, known=standing.known)
    raw_steps = _outline(data, reading.faults, max_steps, may_be_empty=bool(standing.known))
    check_storable(data, "", reading.faults)
    reading.keys = _keys(raw_steps, reading.faults, standing.known | standing.taken)
    drafts = [_draft(raw, f"steps[{number}]", reading) for number, raw in enumerate(raw_steps) if isinstance(raw, dict)]
    answer = Draft(PlanStep(key=""), "answer")
    if "answer" in data:
        collect(data["answer"], "answer", answer, reading)
    steps = link(drafts, answer, reading)
    check_cycles(steps, reading)
    check_fan_out(steps, max_fan_out, reading)
    reading.faults.raise_any()
    return Plan(steps, data.get("answer", NO_ANSWER))


def _outline(data: Any, faults: Faults, max_steps: int, *, may_be_empty: bool) -> list[Any]:
    """The list of steps, if there is one of an acceptable length."""
    if not isinstance(data, dict):
        faults.fatal("", "type", f'A plan is an object {{"steps": […]}}, not {type_name(data)}.')
    steps = data.get("steps")
    if isinstance(steps, list) and len(steps) > max_steps:
        message = f"A plan has at most {max_steps:,} steps, not {len(steps):,}."
        faults.fatal("steps", "too_many_steps", message)
    for name in data:
        if name not in ("steps", "answer"):
            where = references.join_path("", name)
            faults.add(where, "unknown_field", f"A plan has steps and answer, nothing called {shown(name)}.")
    if steps is None:
        faults.fatal("steps", "missing", "A plan needs steps: a list of objects.")
    if not isinstance(steps, list):
        faults.fatal("steps", "type", f"steps must be a list, not {type_name(steps)}.")
    if not steps and not (may_be_empty and "answer" in data):
        faults.fatal("steps", "empty_plan", "The plan has no steps; give at least one.")
    return steps


def _keys(raw_steps: list[Any], faults: Faults, taken: Collection[str]) -> dict[str, int]:
    keys: dict[str, int] = {}
    for number, raw in enumerate(raw_steps):
        path = f"steps[{number}]"
        if not isinstance(raw, dict):
            faults.add(path, "type", f"A step must be an object, not {type_name(raw)}.")
        elif (key := _key(raw.get("key"), f"{path}.key", faults)) is None:
            continue
        elif key in keys:
            message = f"The key {key} is taken by steps[{keys[key]}]; give each step its own."
            faults.add(f"{path}.key", "duplicate_key", message)
        else:
            keys[key] = number
            if key in taken:
                message = f"The key {key} is that of a step that the run has already; give this one another."
                faults.add(f"{path}.key", "duplicate_key", message)
    return keys


def _key(key: Any, path: str, faults: Faults) -> str | None:
    if key is None:
        faults.add(path, "missing", "A step needs a key: letters, digits and _, such as fetch_page.")
    elif not isinstance(key, str):
        faults.add(path, "type", f"A key must be a text, not {type_name(key)}.")
    elif not references.KEY.fullmatch(key):
        message = f"{shown(key)} is no key: use letters, digits and _, not a digit first, at most 64."
        faults.add(path, "bad_key", message)
    elif key in references.RESERVED:
        faults.add(path, "reserved_key", f"{key} is reserved for references to the run; use another key.")
    else:
        return key
    return None


def _draft(raw: dict[str, Any], path: str, reading: Reading) -> Draft:
    faults = reading.faults
    fields = Fields(raw, path, faults)
    key = raw.get("key") if isinstance(raw.get("key"), str) else ""
    kind = _kind(fields)
    draft = Draft(PlanStep(key=str(key)), path, explicit=fields.keys("depends_on"))
    for name in raw:
        if name not in _ALL_FIELDS:
            where = references.join_path(path, name)
            hint = faults.hint(name, _ALL_FIELDS)
            faults.add(where, "unknown_field", f"A step has no field {shown(name)}.{hint}")
    if kind:
        _check_fit(fields, kind)
        draft.step = _step(fields, cast(Kind, kind), draft.step.key)
        _check_kind(fields, draft, reading)
    return draft


def _kind(fields: Fields) -> str:
    """The kind, "" if it is none; the tool ``wait`` is the kind wait."""
    kind = fields.choice("kind", _FIELDS, "") if fields.given("kind") else "tool"
    return "wait" if kind == "tool" and fields.raw.get("tool") == "wait" else kind


def _check_fit(fields: Fields, kind: str) -> None:
    via_tool = kind == "wait" and fields.raw.get("tool") == "wait"
    for name in _FOREIGN[kind]:
        if fields.given(name) and not (via_tool and name == "tool"):
            message = f"A step of kind {kind} takes no {name}; leave it out or choose another kind."
            fields.fault(name, "field_not_allowed", message)


def _step(fields: Fields, kind: Kind, key: str) -> PlanStep:
    return PlanStep(
        key=key,
        kind=kind,
        tool=fields.text("tool", max_chars=100) if kind == "tool" else "",
        arguments=fields.object("arguments") if kind != "answer" else {},
        objective=fields.text("objective", max_chars=MAX_OBJECTIVE_CHARS)
        if kind in ("answer", "ask", "delegate", "act")
        else "",
        title=fields.text("title", max_chars=MAX_TITLE_CHARS),
        timeout_s=fields.seconds("timeout_s", most=MAX_TIMEOUT_S),
        max_attempts=fields.count("max_attempts", most=MAX_ATTEMPTS),
        approval=fields.flag("approval"),
        expires_s=fields.seconds("expires_s", most=MAX_WAIT_S),
        on_error=cast(OnError, fields.choice("on_error", ("fail", "continue"), "fail")),
        if_failed=cast(IfFailed, fields.choice("if_failed", ("skip", "null"), "skip")),
    )


def _check_kind(fields: Fields, draft: Draft, reading: Reading) -> None:
    step = draft.step
    collect(_templates(step), f"{draft.path}.arguments", draft, reading)
    collect(step.objective, f"{draft.path}.objective", draft, reading)
    if step.kind == "wait":
        check_wait(fields, step.arguments)
    elif step.kind == "ask":
        check_ask(fields, step.arguments)
    elif step.kind == "delegate":
        check_delegate(fields, step.arguments)
        _check_childs_plan(fields, step, reading)
    elif step.kind == "act":
        check_act(fields, step.arguments, reading.tools)
    elif step.kind == "tool":
        _check_tool(fields, step, reading)
    if step.approval and step.kind != "tool":
        message = f"Only a call of a tool can be approved; a step of kind {step.kind} cannot."
        fields.fault("approval", "field_not_allowed", message)


def _templates(step: PlanStep) -> dict[str, Any]:
    """The arguments in which references are this plan's."""
    named = {"ask": ("question",), "delegate": plan_delegate.TEMPLATES, "act": ()}.get(step.kind)
    return step.arguments if named is None else {name: step.arguments.get(name) for name in named}


def _check_childs_plan(fields: Fields, step: PlanStep, reading: Reading) -> None:
    """As its own plan will be, unless another agent does it: that one's tools are known when it starts."""
    plan = step.arguments.get("plan")
    if not isinstance(plan, dict) or step.arguments.get("agent") is not None:
        return
    try:
        parse_plan(plan, tools=reading.tools)
    except PlanInvalid as invalid:
        for fault in invalid.data["errors"]:
            fields.fault(f"arguments.plan.{fault['path']}".rstrip("."), fault["code"], fault["message"])


def _check_tool(fields: Fields, step: PlanStep, reading: Reading) -> None:
    if fields.is_blank("tool"):
        fields.fault("tool", "missing", "A step of kind tool needs the name of its tool.")
    elif step.tool and step.tool not in reading.tools:
        hint = reading.faults.hint(step.tool, reading.tools)
        fields.fault("tool", "unknown_tool", f"There is no tool {shown(step.tool)} for this agent.{hint}")
    elif step.tool:
        _check_arguments(fields, step, reading)


def _check_arguments(fields: Fields, step: PlanStep, reading: Reading) -> None:
    """By the tool's schema; what a reference will bring is checked when the step runs."""
    spec = reading.tools[step.tool]
    if fields.given("arguments") and not isinstance(fields.raw["arguments"], dict):
        return  # said already
    for fault in registry.faults(spec, _known(step.arguments), skip=references.has_reference):
        where = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f"arguments.{fault['path']}".rstrip("."))
        code = f"argument_{fault['code']}"
        fields.fault(where, code, _argument_message(code, fault, spec, reading.faults))


def _known(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the tool will see them, where nothing has to be worked out first."""
    return {
        name: value if references.has_reference(value) else references.render(value, {})
        for name, value in arguments.items()
    }


def _argument_message(code: str, fault: Fault, spec: ToolSpec, faults: Faults) -> str:
    name = fault["path"]
    known = spec.input_schema.get("properties", {})
    if code == "argument_missing" and name in known:
        return f"{spec.name} needs the argument {name}."
    if code == "argument_unknown" and "." not in name:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        return f"{spec.name} has no argument {shown(name)}; {takes}.{faults.hint(name, known)}"
    return f"{spec.name}: {fault['message']}."
