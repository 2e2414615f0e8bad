"""Runs made from another run: which of its steps are kept as they ended, and the rows of the new one."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import InvalidTransition

from ..models import Run
from ..states import RunStatus, StepKind, StepStatus
from . import payloads, slots
from .change import jsonb
from .create import NewSteps
from .holding import within_cap
from .sql import SQL

#: The reason of a step that ended in another run; it has no attempt in this one.
RECORDED = "recorded"
UNKNOWN = "outcome_unknown"
_COPIED = (
    "key", "kind", "tool", "title", "objective", "arguments", "depends_on", "lane", "effect", "on_error", "if_failed",
    "approval", "expires_s", "plan_version", "timeout_s", "max_attempts", "caller",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Derived:
    """A run's steps as they begin: rows in plan order, edges among them, the answer template."""

    rows: list[dict[str, Any]]
    edges: list[dict[str, str]]
    answer: dict[str, Any] | None = None
    files_of: UUID | None = None
    first: str = ""  #: the key of the first step that runs anew
    again: frozenset[str] = field(default_factory=frozenset)

    @property
    def counted(self) -> int:
        """How many steps count on a budget: those that run anew and do not plan."""
        return sum(row["reason"] != RECORDED and row["kind"] != StepKind.PLAN for row in self.rows)

    def lanes(self) -> list[str]:
        """Of the steps that can run now."""
        return [row["lane"] for row in self.rows if row["status"] == StepStatus.QUEUED]

    def events(self, **data: Any) -> list[dict[str, Any]]:
        """What the new run's followers are told first; ``data`` says where it comes from."""
        told: list[tuple[str, str, dict[str, Any]]] = [("run.queued", "", data)]
        for row in self.rows:
            if row["reason"] == RECORDED:
                told.append((f"step.{row['status']}", row["key"], {RECORDED: True}))
            elif row["status"] == StepStatus.WAITING:
                told.append(("step.waiting", row["key"], {"reason": row["reason"]}))
        if not self.lanes():
            told.append(("run.waiting", "", {"reason": UNKNOWN}))
        return [{"seq": n, "type": t, "step": step, "data": d} for n, (t, step, d) in enumerate(told, 1)]


def origin_steps(run_id: UUID) -> list[db.Row]:
    """The steps of a run in plan order, without their outputs.

    Raises:
        InvalidTransition: history has taken them.
    """
    steps = db.rows(SQL["origin_steps"], run_id=run_id)
    if not steps:
        raise InvalidTransition("The run's steps are no longer kept; submit its goal or plan again.")
    return _named_again(steps)


def _named_again(steps: list[db.Row]) -> list[db.Row]:
    """What was skipped while it waited for another plan gave up its name for that (``skip_children``); where none of
    that name came, those that need it still mean it."""
    taken = {step["key"] for step in steps}
    found: list[db.Row] = []
    for step in reversed(steps):  # of several, the last plan's
        name, dot, version = step["key"].rpartition(".v")
        if step["status"] == StepStatus.SKIPPED and dot and version.isdecimal() and name not in taken:
            taken.add(name)
            step = step | {"key": name}
        found.append(step)
    return found[::-1]


def anew(steps: NewSteps, files_of: UUID | None = None) -> Derived:
    """Nothing is kept: ``steps`` begin as in any run."""
    rows = [
        row | {"plan_version": 0, "reason": "", "status": "blocked" if row["deps_left"] else "queued", "origin": None}
        for row in steps.rows
    ]
    keys = [row["key"] for row in rows]
    return Derived(rows, steps.edges, steps.answer, files_of, keys[0], frozenset(keys))


def derive(run_id: UUID, steps: Sequence[db.Row], *, redo: Collection[str]) -> Derived:
    """Keep what has succeeded outside ``redo`` and what that was made from; everything else runs anew.

    ``redo`` must hold whatever depends on one of its steps.  An unsafe call whose outcome nobody knows waits for
    somebody's word in the new run, too.
    """
    outside = [step for step in steps if step["key"] not in redo]
    unknown = {step["key"] for step in outside if _is_unknown(step)}
    ended = {step["key"] for step in outside if step["status"] == StepStatus.SUCCEEDED}
    ended |= {step["key"] for step in outside if step["caller"] and step["status"] == StepStatus.FAILED}  # observed
    parents = {step["key"]: step["depends_on"] for step in steps}
    kept = _with_parents(ended | unknown | _planned_around(outside), parents) - unknown
    rows = [_row(n, step, kept, unknown) for n, step in enumerate(steps)]
    edges = [{"parent": parent, "child": step["key"]} for step in steps for parent in step["depends_on"]]
    again = [step["key"] for step in steps if step["key"] not in kept]
    return Derived(rows, edges, steps[0]["run_answer"], run_id, _first(steps, again), frozenset(again))


def without_calls(steps: Sequence[db.Row], redo: Collection[str], *, from_step: str) -> list[db.Row]:
    """``steps`` without the calls of those that act anew: all of them, or those that came after ``from_step``, which is
    one of them."""
    first = next(step for step in steps if step["key"] == from_step)
    gone = {
        step["key"]
        for step in steps
        if step["caller"] in redo
        and step["key"] != from_step
        and (step["caller"] != first["caller"] or turn_of(step) > turn_of(first))
    }
    left = [step for step in steps if step["key"] not in gone]
    return [step | {"depends_on": [key for key in step["depends_on"] if key not in gone]} for step in left]


def turn_of(call: db.Row) -> int:
    """In which turn of its caller a call was made."""
    return int(call["key"].split(".")[-2])


def _planned_around(steps: Sequence[db.Row]) -> set[str]:
    """What had failed or was skipped when the run planned anew: the new plan is the answer to it."""
    anew = [step["finished_at"] for step in steps if step["kind"] == StepKind.PLAN and step["arguments"] is not None]
    bad = (step for step in steps if step["status"] in (StepStatus.FAILED, StepStatus.SKIPPED))
    return {step["key"] for step in bad if anew and step["finished_at"] <= max(anew)}


def _is_unknown(step: db.Row) -> bool:
    """Whether its call may have happened, and nobody knows: after a cancel, too."""
    if not step["begun"] or step["status"] in (StepStatus.SUCCEEDED, StepStatus.FAILED):
        return False
    return step["status"] != StepStatus.CANCELLED or step["error_code"] in (None, UNKNOWN)


def _with_parents(keys: Iterable[str], parents: Mapping[str, Sequence[str]]) -> set[str]:
    """``keys`` and all they were made from, such as a failure that a later step has taken for null."""
    found: set[str] = set()
    left = list(keys)
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left += parents[key]
    return found


def _row(n: int, step: db.Row, kept: Collection[str], unknown: Collection[str]) -> dict[str, Any]:
    row = {name: step[name] for name in _COPIED}
    key, deps_left = step["key"], sum(parent not in kept for parent in step["depends_on"])
    if key in kept:
        return row | {"n": n, "origin": step["id"], "deps_left": 0, "status": step["status"], "reason": RECORDED}
    if key in unknown:
        return row | {"n": n, "origin": step["id"], "deps_left": 0, "status": "waiting", "reason": UNKNOWN}
    status = "blocked" if deps_left else "queued"
    return row | {"n": n, "origin": None, "deps_left": deps_left, "status": status, "reason": ""}


def _first(steps: Sequence[db.Row], again: Sequence[str]) -> str:
    """Where the new run begins: at what has failed, if something has."""
    failed = [step["key"] for step in steps if step["status"] == StepStatus.FAILED]
    return next((key for key in failed if key in again), again[0] if again else "")


def insert(values: Mapping[str, Any], derived: Derived, **told: Any) -> Run | None:
    """Write it with its first events in one statement, and have its first steps admitted.

    None when its key (or its parent's step) is taken.  Costs a statement more for each value that is kept elsewhere,
    and one for all of them.
    """
    uses, run_id = payloads.Uses(values["workspace_id"]), values["id"]
    documents = {name: values[name] and values[name].obj for name in ("plan", "input")}
    packed = {name: jsonb(uses.packed(value, run_id)) for name, value in documents.items()}
    fitting = within_cap(derived.rows, values["limits"].obj, lambda row: row["status"] == StepStatus.QUEUED)
    rows = uses.rows(fitting, run_id)
    with transaction.atomic() if uses else nullcontext():
        made = _insert({**values, **packed}, replace(derived, rows=rows), told)
        if made is not None:
            uses.keep([run_id])
    if made is None:
        return None
    slots.admit_later([(made["workspace_id"], lane) for lane in derived.lanes()])
    return db.instance(Run, made | documents)


def _insert(values: Mapping[str, Any], derived: Derived, told: Mapping[str, Any]) -> db.Row | None:
    events = derived.events(**told)
    lanes = derived.lanes()
    return db.row(
        SQL["insert_derived"],
        **values,
        status=(RunStatus.QUEUED if lanes else RunStatus.WAITING).value,
        reason="" if lanes else UNKNOWN,
        answer=jsonb(derived.answer),
        plan_version=max(row["plan_version"] for row in derived.rows),
        event_seq=len(events),
        events=Jsonb(events),
        open_steps=sum(row["reason"] != RECORDED for row in derived.rows),
        active_steps=len(lanes),
        steps=Jsonb(derived.rows),
        edges=Jsonb(derived.edges),
        files_of=derived.files_of,
    )
