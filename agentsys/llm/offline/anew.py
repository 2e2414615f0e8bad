"""A plan for a run that is under way: what people have said is the new rest, or a failed part is left out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentsys.core.errors import GoalNotPlannable
from agentsys.llm.offline.catalogue import Profile
from agentsys.llm.offline.sources import Step
from agentsys.llm.offline.words import stem

#: The first name of each reference of a template.
_NAMED = re.compile(r"(?<!\$)\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")
_RESERVED = frozenset({"input", "files", "goal"})
_WORDS = re.compile(r"[a-z]+")
_KINDS = ("url", "file")


def seeds(progress: Mapping[str, Any], profiles: Sequence[Profile]) -> list[Step]:
    """Steps that are done or under way, as the planner knows its own: "it" may be one of them."""
    by_name = {profile.name: profile for profile in profiles}
    steps = [*(one["step"] for one in progress["done"]), *progress["under_way"]]
    return [_seed(step, by_name[step["tool"]]) for step in steps if step.get("tool") in by_name]


def _seed(step: Mapping[str, Any], profile: Profile) -> Step:
    arguments = step.get("arguments") or {}
    named = {param.name: param.kind for param in profile.params}
    literals = {
        (named[name], value) for name, value in arguments.items() if named.get(name) in _KINDS and _is_plain(value)
    }
    words = frozenset(map(stem, _WORDS.findall(str(step.get("title") or "").lower())))
    uses = frozenset(_references(arguments))
    return Step(profile, {}, "", str(step["key"]), uses=uses, words=words, literals=frozenset(literals))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and "${" not in value


def without_failed(progress: Mapping[str, Any]) -> dict[str, Any]:
    """The steps that had not started and need nothing that has failed, as they were.

    Raises:
        GoalNotPlannable: there are none.
    """
    gone = {one["step"]["key"] for one in progress["failed"]}
    left = [dict(step) for step in progress["dropped"]]
    while lost := {step["key"] for step in left if gone & set(step.get("depends_on") or ())}:
        gone |= lost
        left = [step for step in left if step["key"] not in lost]
    if not left:
        names = ", ".join(sorted(one["step"]["key"] for one in progress["failed"]))
        reason = f"nothing that has not started can do without what has failed ({names})"
        raise GoalNotPlannable(f"Cannot plan the rest anew: {reason}.", clause="", reason=reason)
    known = {step["key"] for step in left} | _standing(progress)
    answer = progress.get("answer")
    fits = answer is not None and _references(answer) - _RESERVED <= known
    return {"steps": left, "answer": answer} if fits else {"steps": left}


def _standing(progress: Mapping[str, Any]) -> set[str]:
    return {one["step"]["key"] for one in progress["done"]} | {step["key"] for step in progress["under_way"]}


def _references(template: Any) -> set[str]:
    if isinstance(template, str):
        return set(_NAMED.findall(template))
    parts = template.values() if isinstance(template, dict) else template if isinstance(template, list) else ()
    return {name for part in parts for name in _references(part)}
