"""Where the values of a call come from, worked out from the run's steps before a call that cannot be taken back.

Nothing is kept for it: a plan says what each step was given, a tool where its output comes from.  It errs on the safe
side: a step passes on all that the steps before it had, a model all that it has seen, a file
what any file's writer had.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

from agentsys.agents import references, trust
from agentsys.agents.models import Mode
from agentsys.agents.trust import MCP, MODEL, OPERATOR, TOOL, USER
from agentsys.core import db
from agentsys.tools import registry

from .states import StepKind
from .store.claims import Claim
from .store.sql import SQL

#: Effects of calls that are asked about.
ASKED = ("unsafe", "verifiable")
#: Runs above or below one; what lies further away is taken for anything.
MAX_DISTANCE = 8
_NONE: frozenset[str] = frozenset()
_ANYTHING = frozenset(trust.SOURCES)


def tainted(claim: Claim, template: Mapping[str, Any]) -> dict[str, list[str]]:
    """The arguments that the tool may not be given without a person's word, each with where it comes from.

    Costs nothing for a call that may be repeated, else two queries, and more where runs were made from runs.
    """
    if claim.effect not in ASKED or not template:
        return {}
    run = Lineage(claim.run_id)
    allowed, author = trust.allowed(run.approvals, claim.tool), run.author(claim.key)
    found = {name: sorted((author | run.of_template(part)) - allowed) for name, part in template.items()}
    return {name: sources for name, sources in found.items() if sources}


def said(tainted: Mapping[str, list[str]]) -> str:
    """``text comes from web; to comes from mcp, web``"""
    return "; ".join(f"{name} comes from {', '.join(sources)}" for name, sources in tainted.items())


class Lineage:
    """Where the values of one run come from.

    ``given`` are the sources of what it was given from above, where the asker knows them.
    """

    def __init__(self, run_id: UUID, *, distance: int = 0, given: frozenset[str] | None = None) -> None:
        self._run = db.rows(SQL["lineage_run"], run_id=run_id)[0]
        self._steps = {row["key"]: row for row in db.rows(SQL["lineage_steps"], run_id=run_id)}
        self._distance, self._tools = distance, registry.all_tools()
        self._given = self._given_from_above() if given is None else given
        self._known: dict[str, frozenset[str]] = {}
        # Any file may hold what any writer of one had beside files: no circle of writers and readers is gone round.
        self._files = _NONE
        if self._run["writers"]:
            self._known = self._worked_out()
            self._files = self._of_steps(self._run["writers"])
        self._files |= self._given
        self._known = self._worked_out()

    @property
    def approvals(self) -> Mapping[str, Any]:
        """The terms of the agent's version."""
        found: Mapping[str, Any] = self._run["approvals"]
        return found

    def of_template(self, template: Any) -> frozenset[str]:
        """Of the values that a template refers to."""
        return _union(self._of_name(name) for name in references.names(template))

    def author(self, key: str) -> frozenset[str]:
        """Of what is written in a step itself: who has planned it, and what they had seen."""
        step = self._steps.get(key)
        if step is None:
            return _ANYTHING
        if step["caller"]:
            return self._seen_by(step["caller"], before=step["id"]) | {MODEL}
        if self._is_derived and self._above is not None and key in self._above._steps:
            return self._above.author(key) | {USER}
        if not self._planned_by_a_model(step):
            return self._given | ({OPERATOR} if self._run["mode"] == Mode.FIXED else _NONE)
        earlier = [one["key"] for one in self._steps.values() if one["plan_version"] < step["plan_version"]]
        return self._given | self._of_steps(earlier) | {MODEL}

    # --- Steps ---------------------------------------------------------------------------
    def _worked_out(self) -> dict[str, frozenset[str]]:
        """Of each step's output, in the order in which they were made: so no chain of them is too long."""
        self._known = {}
        for key in self._steps:
            self._of_step(key)
        return self._known

    def _of_steps(self, keys: Iterable[str]) -> frozenset[str]:
        return _union(map(self._of_step, keys))

    def _of_step(self, key: str) -> frozenset[str]:
        if key not in self._known:
            self._known[key] = self._of(self._steps[key]) if key in self._steps else _ANYTHING
        return self._known[key]

    def _of(self, step: db.Row) -> frozenset[str]:
        if step["kind"] in (StepKind.WAIT, StepKind.PLAN):
            return _NONE
        if step["kind"] == StepKind.ASK:
            return frozenset({USER})
        given = self._of_steps(step["depends_on"]) | self.author(step["key"])
        if step["kind"] == StepKind.TOOL:
            return given | self._of_tool(step)
        if step["kind"] == StepKind.DELEGATE:
            return self._of_child(step, given)
        return given | self._seen_by(step["key"]) | {MODEL}

    def _of_tool(self, step: db.Row) -> frozenset[str]:
        spec = self._tools.get(step["tool"])
        if spec is None:
            return frozenset({MCP, TOOL})
        own = frozenset({spec.source} if spec.source else _NONE)
        return own | self._files if spec.signature.context else own

    def _of_child(self, step: db.Row, given: frozenset[str]) -> frozenset[str]:
        child = db.row(SQL["lineage_child"], step_id=step["id"])
        if child is None or self._distance >= MAX_DISTANCE:
            return _ANYTHING
        below = Lineage(child["id"], distance=self._distance + 1, given=given)
        return given | below._of_steps(below._steps) | {MODEL}

    def _seen_by(self, actor: str, *, before: int | None = None) -> frozenset[str]:
        """Of what a model that acts or answers has seen: steps before it, its calls, files, people."""
        step = self._steps.get(actor)
        if step is None:
            return _ANYTHING
        calls = (one for one in self._steps.values() if one["caller"] == actor)
        seen = [one["key"] for one in calls if before is None or one["id"] < before]
        waited_for = (key for key in step["depends_on"] if key in self._steps and self._steps[key]["caller"] != actor)
        return self._given | self._files | self._of_steps([*waited_for, *seen])

    def _planned_by_a_model(self, step: db.Row) -> bool:
        if self._run["mode"] == Mode.FIXED:
            return False
        first = min(one["plan_version"] for one in self._steps.values())
        return not self._run["planned_by_people"] or step["plan_version"] > first

    def _of_name(self, name: str) -> frozenset[str]:
        if name in ("input", "goal"):
            return self._given
        if name == "files":
            return self._files
        return _NONE if name == references.CREDENTIAL else self._of_steps([name])

    # --- The run that it was made from ------------------------------------------------------
    @property
    def _is_derived(self) -> bool:
        """A retry or a fork."""
        return self._run["parent_run_id"] is not None and self._run["parent_step"] is None

    @cached_property
    def _above(self) -> "Lineage | None":
        if self._run["parent_run_id"] is None or self._distance >= MAX_DISTANCE:
            return None
        return Lineage(self._run["parent_run_id"], distance=self._distance + 1)

    def _given_from_above(self) -> frozenset[str]:
        """Of the goal, the input, the files and the messages that the run was given."""
        if self._run["parent_run_id"] is None:
            return frozenset({USER})
        above = self._above
        if above is None:
            return _ANYTHING
        if self._is_derived:
            return above._given | {USER}
        asked = db.rows(SQL["lineage_parent"], step_id=self._run["parent_step"])[0]["key"]
        return above.author(asked) | above._of_steps(above._steps[asked]["depends_on"]) | {USER}


def _union(parts: Iterable[frozenset[str]]) -> frozenset[str]:
    return _NONE.union(*parts)
