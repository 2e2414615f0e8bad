"""What ties the steps of a plan together: references and dependencies that exist, and no circles."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentsys.agents import references
from agentsys.agents.plan_faults import Faults, shown
from agentsys.agents.plan_graph import cycles
from agentsys.agents.plan_types import PlanStep
from agentsys.core.errors import PayloadTooLarge
from agentsys.tools.registry import ToolSpec

#: Of all steps together, references not counted.
MAX_DEPENDENCIES = 50_000


@dataclass
class Reading:
    """What the parts of one parse share."""

    tools: Mapping[str, ToolSpec]
    faults: Faults = field(default_factory=Faults)
    #: Well-formed keys with the number of their step, the first one where a key is taken twice.
    keys: dict[str, int] = field(default_factory=dict)
    #: Keys of steps that the run has already, and that a new plan may refer to.
    known: frozenset[str] = frozenset()
    work_left: int = references.MAX_WORK


@dataclass
class Draft:
    """A step before its dependencies are known to exist."""

    step: PlanStep
    path: str
    explicit: list[tuple[str, str]] = field(default_factory=list)  # (where, key)
    found: list[references.Place] = field(default_factory=list)


def collect(template: Any, path: str, draft: Draft, reading: Reading) -> None:
    """Note the references of a template, and what is wrong with them."""
    if not template:
        return
    try:
        found = references.inspect(template, path, max_work=reading.work_left)
    except PayloadTooLarge as error:
        reading.faults.fatal(path, "too_many_references", error.message)
    reading.work_left -= found.work
    draft.found += found.places
    for fault in found.faults:
        reading.faults.add(**fault)


def link(drafts: list[Draft], answer: Draft, reading: Reading) -> tuple[PlanStep, ...]:
    """The steps with their dependencies; the answer's references are checked in the same way."""
    if sum(len(draft.explicit) for draft in drafts) > MAX_DEPENDENCIES:
        message = f"A plan has at most {MAX_DEPENDENCIES:,} dependencies."
        reading.faults.fatal("steps", "too_many_dependencies", message)
    steps = tuple(_linked(draft, reading) for draft in drafts)
    _linked(answer, reading)
    return steps


def _linked(draft: Draft, reading: Reading) -> PlanStep:
    """The step with its dependencies: those it names, then those its references make."""
    named = [key for where, key in draft.explicit if _is_known(where, key, "dependency", draft, reading)]
    for place in draft.found:
        is_step = place.name not in references.RESERVED
        if place.name == references.CREDENTIAL and not _takes_secrets(place, draft):
            message = "A credential may only stand in the arguments of a tool; it is filled in when that is called."
            reading.faults.add(place.where, "credential_misplaced", message)
        if is_step and _is_known(place.where, place.name, "reference", draft, reading):
            named.append(place.name)
        _check_fields(place, reading)
    return replace(draft.step, depends_on=tuple(dict.fromkeys(named))) if named else draft.step


def _takes_secrets(place: references.Place, draft: Draft) -> bool:
    return draft.step.kind == "tool" and place.where.startswith(f"{draft.path}.arguments")


def _is_known(where: str, key: str, what: str, draft: Draft, reading: Reading) -> bool:
    if key == draft.step.key:
        message = f"The step {shown(key)} cannot wait for itself; remove this {what}."
        reading.faults.add(where, "self_dependency", message)
    elif key not in reading.keys and key not in reading.known:
        hint = " Write $${ for a literal ${." if what == "reference" else ""
        near = reading.faults.hint(key, [*reading.keys, *reading.known])
        message = f"There is no step {shown(key)} in this plan.{near}{hint}"
        reading.faults.add(where, f"unknown_{what}", message)
    return key != draft.step.key and (key in reading.keys or key in reading.known)


def _check_fields(place: references.Place, reading: Reading) -> None:
    """``${a.x || b.y}`` looks for ``b`` in the output of ``a``; meant as a step it would be a silent null."""
    for name in sorted((reading.keys.keys() | reading.known) & place.root_fields):
        message = f"After the first name everything is looked up in {place.name}: {name} would be a field"
        hint = f"of it, not the step. Use a reference of its own, or write @.{name} for the field."
        reading.faults.add(place.where, "ambiguous_reference", f"{message} {hint}")


def check_cycles(steps: tuple[PlanStep, ...], reading: Reading) -> None:
    """A fault for each circle, at its first step; it names the way round."""
    keys = reading.keys
    graph: dict[str, tuple[str, ...]] = dict.fromkeys(keys, ())
    for step in steps:
        if step.key in keys:
            graph[step.key] += tuple(key for key in step.depends_on if key in keys)  # of both of a key taken twice
    for cycle in cycles(graph):
        first = min(cycle, key=keys.__getitem__)
        turn = cycle.index(first)
        names = [*cycle[turn:], *cycle[:turn], first]
        circle = " → ".join(names if len(names) <= 12 else [*names[:6], "…", *names[-5:]])
        message = f"These steps wait for each other: {circle}. Remove one of the dependencies."
        reading.faults.add(f"steps[{keys[first]}].depends_on", "cycle", message)


def check_fan_out(steps: tuple[PlanStep, ...], most: int, reading: Reading) -> None:
    """A fault for each step that more steps wait for than ``most``."""
    waiting = Counter(key for step in steps for key in step.depends_on)
    for key, count in waiting.items():
        if count > most:
            where = f"steps[{reading.keys[key]}]" if key in reading.keys else "steps"
            message = f"{count:,} steps wait for {shown(key)}; at most {most:,} may."
            reading.faults.add(where, "too_many_children", message)
