"""How far a run has come when it plans anew: what its planner is told, and what a new plan may build on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentsys.agents.plan_types import Standing

#: Of a step as a model is told of it.
_TOLD = ("key", "kind", "tool", "title", "arguments", "objective", "depends_on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Steps are as in a plan, each with what became of it.

    ``done``: {step, output} of those that have succeeded, the output as JSON and cut if it is long; ``under_way``:
    those that run or wait and go on; ``failed``: {step, error}; ``dropped``: those that have not started, which the
    new plan replaces.  ``answer`` is the answer template so far (None: none); ``asked`` is what people who want the
    new plan have said.
    """

    done: Sequence[Mapping[str, Any]] = ()
    under_way: Sequence[Mapping[str, Any]] = ()
    failed: Sequence[Mapping[str, Any]] = ()
    dropped: Sequence[Mapping[str, Any]] = ()
    taken: frozenset[str] = frozenset()
    answer: Any = None
    asked: Sequence[str] = ()

    @property
    def done_keys(self) -> frozenset[str]:
        return frozenset(one["step"]["key"] for one in self.done)

    def standing(self) -> Standing:
        """What a new plan can refer to, and which other keys it must not use."""
        known = self.done_keys | {step["key"] for step in self.under_way}
        return Standing(known, self.taken - known)

    def as_json(self) -> dict[str, Any]:
        """The same as data."""
        return {**asdict(self), "taken": sorted(self.taken)}

    def sections(self) -> dict[str, Any]:
        """For a prompt."""
        return {
            "done": [told(one["step"]) | {"output": one["output"]} for one in self.done],
            "under way": [told(step) for step in self.under_way],
            "failed": [told(one["step"]) | {"error": one["error"]} for one in self.failed],
            "not started": [told(step) for step in self.dropped],
            "keys that are taken": sorted(self.taken),
            "asked for": list(self.asked),
        }


def told(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step without what is nobody's business but the engine's."""
    return {name: step[name] for name in _TOLD if step.get(name)}
