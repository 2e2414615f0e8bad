"""What a run should do, in plain Python: no database, no clock, one thing at a time.

A step that is ``due`` is ready or queued (for a slot, or in a paused run): what differs between them is not
promised.  Where the order of what happens is not promised either (a step fails and ends its run while others are
due), the run is ``open_ended``: whoever looks next takes what there is, if it is one of the possible ends.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.machine.shapes import GOAL_RESULT, LANES, PLANNING, UNSAFE, Shape, StepShape

FINAL = ("succeeded", "failed", "skipped", "cancelled")
ACTIVE = ("due", "running", "sleeping")


@dataclass
class Step:
    key: str
    does: str
    needs: tuple[str, ...]
    on_error: str
    if_failed: str
    tries: int
    child_shape: Shape
    status: str = "due"
    reason: str = ""
    left: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    called: int | None = 0  # how often its tool ran, whatever came of it; None: the order decided
    begun: bool = False  # an unsafe call that nobody saw the end of
    asked: dict[str, Any] = field(default_factory=dict)  # of a wire: the arguments
    arguments: dict[str, Any] | None = None  # the same, once they are approved
    over: bool = False  # the time of its question
    output: Any = None
    code: str | None = None
    kept: bool = False  # ended in the run that this one was made from
    recorded: bool = False  # replayed instead of being done
    child: "Run | None" = None

    @property
    def lane(self) -> str:
        return LANES[self.does]

    @property
    def is_unsafe(self) -> bool:
        return (self.does in UNSAFE or self.does == "wire") and not self.recorded


@dataclass
class Run:
    steps: dict[str, Step]
    id: str = ""
    parent: "tuple[Run, str] | None" = None  # whose step waits for this
    started: bool = False
    paused: str = ""  # why
    stopping: str = ""  # the reason with which it will end
    code: str | None = None  # of the error that stops it
    final: tuple[str, str] | None = None
    result: Any = None
    before: dict[str, str] | None = None  # its steps before a turn that ended it: the order decides what else was done
    wild: bool = False  # the order decided all of it
    asleep: bool = False  # until its start
    derived: bool = False
    events: list[Any] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    dirty: bool = True

    # --- What can be seen -----------------------------------------------------------------
    def expected(self) -> tuple[set[str], set[str]]:
        """Statuses and reasons that it may have now."""
        if self.final:
            return {self.final[0]}, {self.final[1]}
        if self.stopping:
            return {"cancelling"}, {"policy"} if self.code else {self.stopping}
        if self.paused:
            return {"paused"}, {self.paused}
        waiting = {step.reason for step in self.steps.values() if step.status == "waiting"}
        if not any(step.status in ACTIVE for step in self.steps.values()):
            return {"waiting"}, waiting
        if self.started:
            return {"running"}, {""}
        return {"queued", "running"} if self.derived else {"queued"}, {"", "start_at"} if self.asleep else {""}

    @property
    def is_live(self) -> bool:
        return self.final is None

    @property
    def is_open(self) -> bool:
        """Whether something of it may still start."""
        return self.is_live and not self.stopping

    def due(self, lane: str) -> list[Step]:
        if self.paused or not self.is_open:
            return []
        return [step for step in self.steps.values() if step.status == "due" and step.lane == lane]

    # --- Moves ----------------------------------------------------------------------------
    def start(self, step: Step) -> None:
        self.dirty, self.started, self.asleep = True, True, False
        step.status, step.attempt = "running", step.attempt + 1

    def succeed(self, step: Step, output: Any) -> None:
        self._leave(step, "succeeded", "")
        step.output, step.code = output, None
        self._join(step)
        self._settle()

    def fail(self, step: Step, code: str, reason: str, *, why: str = "") -> None:
        if self.stopping:
            self.cancel_step(step)
            return
        self._leave(step, "failed", why)
        step.code = code
        if step.on_error == "continue":
            self._join(step, failed=True)
        else:
            self.stop(reason, code)
        self._settle()

    def park(self, step: Step, reason: str) -> None:
        if self.stopping:
            self.cancel_step(step)
        else:
            self._leave(step, "waiting", reason)

    def sleep(self, step: Step, reason: str) -> None:
        if self.stopping:
            self.cancel_step(step)
        else:
            self._leave(step, "sleeping", reason)

    def back(self, step: Step, reason: str = "") -> None:
        """Due again."""
        if self.stopping:
            self.cancel_step(step)
        else:
            self._leave(step, "due", reason)

    def cancel_step(self, step: Step) -> None:
        self._leave(step, "cancelled", "run")
        self._settle()

    def stop(self, reason: str, code: str | None = None) -> None:
        """Cancelling, and on to its end when nothing runs."""
        if self.stopping or self.final:
            return
        self.dirty, self.stopping, self.code, self.paused = True, reason, code, ""
        orphans: list[Run] = []
        for step in self.steps.values():
            if step.status not in (*FINAL, "running"):
                was_waiting = (step.status, step.reason) == ("waiting", "child")
                self._leave(step, "cancelled", "run")
                if was_waiting and step.child is not None:
                    orphans.append(step.child)
        self._settle()
        for child in orphans:
            child.stop("parent")

    def _leave(self, step: Step, status: str, reason: str) -> None:
        self.dirty = True
        step.status, step.reason = status, reason

    def _join(self, step: Step, *, failed: bool = False) -> None:
        if self.stopping:
            return
        for child in [one for one in self.steps.values() if step.key in one.needs and one.status == "blocked"]:
            child.left -= 1
            if failed and child.if_failed == "skip":
                self._leave(child, "skipped", "parent")
                self._join(child, failed=True)
            elif child.left == 0:
                child.status = "due"

    def _settle(self) -> None:
        self.dirty = True
        if self.final or any(step.status not in FINAL for step in self.steps.values()):
            return
        if self.stopping:
            self.final = ("failed" if self.code else "cancelled", self.stopping)
        else:
            self.final = ("succeeded", "complete")
            self.result = GOAL_RESULT if self.is_goal else {one.key: one.output for one in self.leaves()}
        self.paused = ""
        self.tell_parent()

    def pause(self, reason: str = "operator") -> None:
        """And those below it with it."""
        self.paused, self.dirty = self.paused or reason, True
        for child in self._children():
            if child.is_open and not child.paused:
                child.pause("parent")

    def resume(self) -> None:
        self.paused, self.dirty = "", True
        for child in self._children():
            if child.paused == "parent":
                child.resume()

    def _children(self) -> "list[Run]":
        return [step.child for step in self.steps.values() if step.child is not None]

    def tell_parent(self) -> None:
        """The step that waits for this run ends as it did."""
        if self.parent is None or self.final is None:
            return
        run, step = self.parent[0], self.parent[0].steps[self.parent[1]]
        if (step.status, step.reason) != ("waiting", "child"):
            return
        if self.final[0] == "succeeded":
            run.succeed(step, self.result)
        else:
            run.fail(step, "child_failed", "error")

    @property
    def is_goal(self) -> bool:
        return PLANNING.key in self.steps

    def leaves(self) -> list[Step]:
        needed = {key for step in self.steps.values() for key in step.needs}
        return [step for step in self.steps.values() if step.key not in needed]


def run_of(shape: Shape, **more: Any) -> Run:
    """A run as it begins."""
    steps = {one.key: step_of(one) for one in shape}
    for step in steps.values():
        step.status = "blocked" if step.left else "due"
    return Run(steps, **more)


def step_of(shape: StepShape) -> Step:
    how = (shape.on_error, shape.if_failed, shape.tries, shape.child)
    return Step(shape.key, shape.does, shape.needs, *how, left=len(shape.needs), asked={"to": shape.key})
