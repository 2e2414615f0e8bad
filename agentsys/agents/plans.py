"""Plans: from JSON that nobody has checked to steps that the engine can run.

CONTRACT's grammar: ``{"steps": [step…], "answer": template}``.  Whoever wrote the plan (a person, a
planner, a model) gets all its faults at once, each with the path where it is (``steps[2].arguments.url``),
a stable code and what to do.  An optional field that is null counts as absent (models fill in nulls), but for
``answer``, where null is an answer, and ``if_failed``, where it is a choice.

Codes: too_many_steps, too_large, too_deep, too_many_references, too_many_dependencies, too_many_faults,
empty_plan, unknown_field, field_not_allowed, missing, type, bad_value, bad_key, reserved_key, duplicate_key,
kind_unavailable, approval_unavailable, unknown_tool, argument_missing, argument_unknown, argument_type,
argument_value, reference_syntax, unknown_reference, unknown_dependency, self_dependency, cycle.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from agentsys.agents import references
from agentsys.agents.plan_faults import Faults, check_storable, shown, type_name
from agentsys.agents.plan_fields import Fields, check_wait
from agentsys.agents.plan_graph import cycles, layers, terminal_keys
from agentsys.agents.plan_types import NO_ANSWER, IfFailed, Kind, NoAnswer, OnError, Plan, PlanStep, to_json
from agentsys.tools import registry
from agentsys.tools.registry import ToolSpec

__all__ = ["NO_ANSWER", "NoAnswer", "Plan", "PlanStep", "layers", "parse_plan", "terminal_keys", "to_json"]

MAX_TIMEOUT_S = 86_400
MAX_ATTEMPTS = 20
MAX_TITLE_CHARS = 200
MAX_OBJECTIVE_CHARS = 20_000
MAX_REFERENCES = 20_000
MAX_DEPENDENCIES = 50_000

_COMMON = frozenset({"key", "kind", "title", "depends_on", "approval", "on_error", "if_failed"})
_MODEL = frozenset({"objective", "timeout_s", "max_attempts"})
_FIELDS: dict[str, frozenset[str]] = {
    "tool": _COMMON | {"tool", "arguments", "timeout_s", "max_attempts"},
    "act": _COMMON | _MODEL,
    "answer": _COMMON | _MODEL,
    "wait": _COMMON | {"arguments"},
}
_ALL_FIELDS = frozenset().union(*_FIELDS.values())
#: In the contract, but nothing can run them yet.
_UNAVAILABLE = ("ask", "delegate")
_KINDS = (*_FIELDS, *_UNAVAILABLE)


@dataclass
class _Draft:
    """A step before its dependencies are known to exist."""

    step: PlanStep
    path: str
    explicit: list[tuple[str, str]] = field(default_factory=list)  # (where, key)
    found: list[tuple[str, str]] = field(default_factory=list)  # (where, first name)


def parse_plan(data: Any, *, tools: Mapping[str, ToolSpec], max_steps: int = 1_000) -> Plan:
    """Check a plan and make its steps.

    Args:
        data: JSON from anywhere; it is not changed, and the plan shares its parts.
        tools: What the agent may use, by name.
        max_steps: Limit of steps; a longer plan is refused without looking at them.

    Raises:
        PlanInvalid: with ``errors``, every fault as ``{path, code, message}`` (at most about a hundred).

    Costs about 20 µs a step.
    """
    faults = Faults()
    raw_steps = _outline(data, faults, max_steps)
    check_storable(data, "", faults)
    keys = _keys(raw_steps, faults)
    drafts = [
        _draft(raw, f"steps[{number}]", faults, tools)
        for number, raw in enumerate(raw_steps)
        if isinstance(raw, dict)
    ]
    answer = _Draft(PlanStep(key=""), "answer")
    if "answer" in data:
        _collect(data["answer"], "answer", answer, faults)
    _check_amounts([*drafts, answer], faults)
    steps = tuple(_linked(draft, keys, faults) for draft in drafts)
    _linked(answer, keys, faults)
    _check_cycles(steps, keys, faults)
    faults.raise_any()
    return Plan(steps, data.get("answer", NO_ANSWER))


def _outline(data: Any, faults: Faults, max_steps: int) -> list[Any]:
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
    if not steps:
        faults.fatal("steps", "empty_plan", "The plan has no steps; give at least one.")
    return steps


def _keys(raw_steps: list[Any], faults: Faults) -> dict[str, int]:
    """Well-formed keys with the number of their step, the first one where a key is taken twice."""
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


def _draft(raw: dict[str, Any], path: str, faults: Faults, tools: Mapping[str, ToolSpec]) -> _Draft:
    fields = Fields(raw, path, faults)
    key = raw.get("key") if isinstance(raw.get("key"), str) else ""
    kind = _kind(fields)
    draft = _Draft(PlanStep(key=str(key)), path, explicit=fields.keys("depends_on"))
    for name in raw:
        if name not in _ALL_FIELDS:
            where = references.join_path(path, name)
            hint = faults.hint(name, _ALL_FIELDS)
            faults.add(where, "unknown_field", f"A step has no field {shown(name)}.{hint}")
    if kind in _UNAVAILABLE:
        message = f"Steps of kind {kind} are not available yet; use another kind."
        fields.fault("kind", "kind_unavailable", message)
    elif kind:
        _check_fit(fields, kind)
        draft.step = _step(fields, cast(Kind, kind), draft.step.key)
        _check_kind(fields, draft, faults, tools)
    return draft


def _kind(fields: Fields) -> str:
    """The kind, "" if it is none; the tool ``wait`` is the kind wait."""
    kind = fields.choice("kind", _KINDS, "tool") if fields.given("kind") else "tool"
    return "wait" if kind == "tool" and fields.raw.get("tool") == "wait" else kind


def _check_fit(fields: Fields, kind: str) -> None:
    via_tool = kind == "wait" and fields.raw.get("tool") == "wait"
    for name in sorted(_ALL_FIELDS - _FIELDS[kind]):
        if fields.given(name) and not (via_tool and name == "tool"):
            message = f"A step of kind {kind} takes no {name}; leave it out or choose another kind."
            fields.fault(name, "field_not_allowed", message)


def _step(fields: Fields, kind: Kind, key: str) -> PlanStep:
    return PlanStep(
        key=key,
        kind=kind,
        tool=fields.text("tool", max_chars=100) if kind == "tool" else "",
        arguments=fields.object("arguments") if kind in ("tool", "wait") else {},
        objective=fields.text("objective", max_chars=MAX_OBJECTIVE_CHARS)
        if kind in ("act", "answer")
        else "",
        title=fields.text("title", max_chars=MAX_TITLE_CHARS),
        timeout_s=fields.seconds("timeout_s", most=MAX_TIMEOUT_S) if kind != "wait" else None,
        max_attempts=fields.count("max_attempts", most=MAX_ATTEMPTS) if kind != "wait" else None,
        approval=fields.flag("approval"),
        on_error=cast(OnError, fields.choice("on_error", ("fail", "continue"), "fail")),
        if_failed=cast(IfFailed, fields.choice("if_failed", ("skip", "null"), "skip")),
    )


def _check_kind(fields: Fields, draft: _Draft, faults: Faults, tools: Mapping[str, ToolSpec]) -> None:
    step = draft.step
    _collect(step.arguments, f"{draft.path}.arguments", draft, faults)
    _collect(step.objective, f"{draft.path}.objective", draft, faults)
    if step.kind == "wait":
        check_wait(fields, step.arguments)
    elif step.kind == "act" and not fields.given("objective"):
        fields.fault("objective", "missing", "A step of kind act needs an objective: what it is to achieve.")
    elif step.kind == "tool":
        _check_tool(fields, step, faults, tools)
    if step.approval:
        message = "Approvals are not available yet; leave approval out."
        fields.fault("approval", "approval_unavailable", message)


def _check_tool(fields: Fields, step: PlanStep, faults: Faults, tools: Mapping[str, ToolSpec]) -> None:
    if not fields.given("tool"):
        fields.fault("tool", "missing", "A step of kind tool needs the name of its tool.")
    elif step.tool and step.tool not in tools:
        hint = faults.hint(step.tool, tools)
        fields.fault("tool", "unknown_tool", f"There is no tool {shown(step.tool)} for this agent.{hint}")
    elif step.tool:
        _check_arguments(fields, step, tools[step.tool])


def _check_arguments(fields: Fields, step: PlanStep, spec: ToolSpec) -> None:
    """By the tool's schema; what a reference will bring is checked when the step runs."""
    if spec.approval:
        message = f"{spec.name} needs an approval; approvals are not available yet."
        fields.fault("tool", "approval_unavailable", message)
    if fields.given("arguments") and not isinstance(fields.raw["arguments"], dict):
        return  # said already
    for fault in registry.faults(spec, step.arguments, skip=references.has_reference):
        where = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f"arguments.{fault['path']}".rstrip("."))
        fields.fault(where, f"argument_{fault['code']}", fault["message"])


def _collect(template: Any, path: str, draft: _Draft, faults: Faults) -> None:
    found = references.inspect(template, path)
    draft.found += found.places
    for fault in found.faults:
        faults.add(**fault)


def _check_amounts(drafts: list[_Draft], faults: Faults) -> None:
    if sum(len(draft.found) for draft in drafts) > MAX_REFERENCES:
        message = f"A plan has at most {MAX_REFERENCES:,} references."
        faults.fatal("steps", "too_many_references", message)
    if sum(len(draft.explicit) for draft in drafts) > MAX_DEPENDENCIES:
        message = f"A plan has at most {MAX_DEPENDENCIES:,} dependencies."
        faults.fatal("steps", "too_many_dependencies", message)


def _linked(draft: _Draft, keys: Mapping[str, int], faults: Faults) -> PlanStep:
    """The step with its dependencies: those it names, then those its references make."""
    named = [key for where, key in draft.explicit if _is_known(where, key, "dependency", draft, keys, faults)]
    for where, name in draft.found:
        if name not in references.RESERVED and _is_known(where, name, "reference", draft, keys, faults):
            named.append(name)
    return replace(draft.step, depends_on=tuple(dict.fromkeys(named)))


def _is_known(
    where: str, key: str, what: str, draft: _Draft, keys: Mapping[str, int], faults: Faults
) -> bool:
    if key == draft.step.key:
        message = f"The step {shown(key)} cannot wait for itself; remove this {what}."
        faults.add(where, "self_dependency", message)
    elif key not in keys:
        hint = " Write $${ for a literal ${." if what == "reference" else ""
        message = f"There is no step {shown(key)} in this plan.{faults.hint(key, keys)}{hint}"
        faults.add(where, f"unknown_{what}", message)
    return key != draft.step.key and key in keys


def _check_cycles(steps: tuple[PlanStep, ...], keys: Mapping[str, int], faults: Faults) -> None:
    graph: dict[str, tuple[str, ...]] = dict.fromkeys(keys, ())
    for step in steps:
        if step.key in keys:
            graph[step.key] += step.depends_on  # of both, where a key is taken twice
    for cycle in cycles(graph):
        first = min(cycle, key=keys.__getitem__)
        turn = cycle.index(first)
        names = [*cycle[turn:], *cycle[:turn], first]
        circle = " → ".join(names if len(names) <= 12 else [*names[:6], "…", *names[-5:]])
        message = f"These steps wait for each other: {circle}. Remove one of the dependencies."
        faults.add(f"steps[{keys[first]}].depends_on", "cycle", message)
