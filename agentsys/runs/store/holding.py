"""What of a locked run may start, and the slots that it gives back: the part of a change that others wait for."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentsys.core import db

from ..states import STEP_SLOTTED, RunStatus, StepStatus
from . import slots
from .sql import SQL

#: How many steps of a run may want a slot, be ready or running at a time: a limit of the run, and why a step is held.
PARALLEL = "parallel"


def within_cap(
    rows: list[dict[str, Any]], limits: Mapping[str, Any], starts: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """A new run's steps, of which those that it ``starts`` with are held beyond the cap of its limits."""
    late = {row["key"] for row in [row for row in rows if starts(row)][limits.get(PARALLEL, len(rows)) :]}
    return [{**row, "held": PARALLEL} if row["key"] in late else row for row in rows] if late else rows


@dataclass
class Holding:
    """A locked run, and ``lanes`` to ring after the commit."""

    run: db.Row
    lanes: list[str] = field(default_factory=list)
    _wanting: set[str] = field(default_factory=set)
    _freed: Counter[str] = field(default_factory=Counter)

    @property
    def is_paused(self) -> bool:
        return bool(self.run["status"] == RunStatus.PAUSED)

    @property
    def is_held(self) -> bool:
        """Nothing of the run starts: somebody has paused it, or its time is used up."""
        return self.is_paused or self.run["held_at"] is not None

    @property
    def ready(self) -> StepStatus:
        """Where a step goes that could run now: for a slot, with :attr:`held` if its run keeps it from one."""
        return StepStatus.QUEUED

    @property
    def held(self) -> str:
        """What keeps the run's queued steps from a slot: in a run that is held they wait for the resume, in one with a
        cap on its parallel steps for a place, see :meth:`fit`."""
        return "paused" if self.is_held else self.unpaused

    @property
    def unpaused(self) -> str:
        """:attr:`held` of a run that is not."""
        return PARALLEL if PARALLEL in self.run["limits"] else ""

    @property
    def again(self) -> StepStatus:
        """Where a running step goes that runs again: it keeps its slot unless its run is held."""
        return StepStatus.QUEUED if self.is_held else StepStatus.READY

    def ring(self, lane: str) -> None:
        """A step of ``lane`` has become :attr:`ready`."""
        if not self.held:
            self._wanting.add(lane)

    def ring_again(self, lane: str) -> None:
        """A step of ``lane`` runs :attr:`again`: it has its slot."""
        if not self.is_held:
            self.lanes.append(lane)

    def count_slot(self, was: str, to: str, lane: str) -> None:
        """A step of ``lane`` moves from ``was`` to ``to``: does it give a slot back?"""
        self._freed[lane] += (was in STEP_SLOTTED) - (to in STEP_SLOTTED)

    def release(self) -> int:
        """What a pause held back wants its slot, or waits for a place among the parallel steps; how many those were."""
        run, held = self.run, self.unpaused
        released = db.rows(SQL["release_held"], run_id=run["id"], priority=run["priority"], held=held)
        self._wanting.update(row["lane"] for row in released if not held)
        return len(released)

    def release_what_is_held(self) -> bool:
        """Where nothing holds the run and something of it is held all the same: a defect; whether it was so."""
        return not self.is_held and self.release() > 0

    def fit(self) -> None:
        """Places for those that wait for one, or fewer where the run's cap was lowered; before budgets and slots."""
        if self.unpaused != PARALLEL:
            return  # in a run that is held nothing waits for a place, but what runs may be more than a new cap
        run = self.run
        fitted = db.rows(
            SQL["fit_parallel"], run_id=run["id"], parallel=run["limits"][PARALLEL], priority=run["priority"]
        )
        moved = [row for row in fitted if row["lane"] is not None]
        for row in moved:
            self.count_slot(row["was"], StepStatus.QUEUED, row["lane"])
        run["over_cap"] = fitted[0]["room"] + len(moved) < 0
        self._wanting.update(row["lane"] for row in moved if row["gets"])

    def give_back_slots(self) -> None:
        """In the transaction, as its last lock."""
        self._wanting.update(slots.free(self.run["workspace_id"], self._freed))

    def admit(self) -> None:
        """After the commit: slots for those that want one, of this run or others of its workspace."""
        self.lanes += slots.admit_all((self.run["workspace_id"], lane) for lane in self._wanting)
