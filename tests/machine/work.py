"""What a worker makes of a step, in the model; and the runs that are made from another one."""

from collections.abc import Callable, Iterable
from typing import Any

from tests.machine.model import Run, Step, run_of, step_of
from tests.machine.shapes import PLANNED, PLANNING, UNSAFE

MAX_CRASHES = 3
SAID = {"said": True}


def turn(runs: list[Run], lane: str) -> None:
    """All that a lane has due, and what follows from it in the same lane."""
    before = {id(run): {step.key: step.status for step in run.steps.values()} for run in runs}
    stopped = {id(run): run.stopping for run in runs}
    ended = {id(run) for run in runs if not run.is_live}
    while True:
        due = [(run, step) for run in list(runs) for step in run.due(lane)]
        if not due:
            break
        for run, step in due:
            if step.status == "due" and run.is_open:
                run.start(step)
                if (child := end(run, step)) is not None:
                    runs.append(child)
    for run in runs:
        if run.stopping and not stopped.get(id(run), ""):
            run.before = before.get(id(run)) or {step.key: "due" for step in run.steps.values()}
            for step in run.steps.values():
                if step.child is not None and id(step.child) not in ended:
                    step.child.wild = step.child.dirty = True


def end(run: Run, step: Step, *, trusted: bool = True) -> Run | None:
    """A running step's handler does its work, and what came of it is recorded; the child that it has made.

    ``trusted``: its lease has not run out.
    """
    if step.recorded:
        run.succeed(step, step.output)
    elif step.is_unsafe:
        _call(run, step, trusted)
    elif step.does == "delegate":
        return _delegate(run, step)
    else:
        _DOES[step.does](run, step)
    return None


def _echo(run: Run, step: Step) -> None:
    run.succeed(step, {"is": step.key, "of": [run.steps[key].output for key in step.needs]})


def _fails(run: Run, step: Step) -> None:
    step.failures += not run.stopping
    run.fail(step, "tool_failed", "tool")


def _flaky(run: Run, step: Step) -> None:
    _called(step)
    if step.called is None or step.called > 1:
        run.succeed(step, ... if step.called is None else step.called)
    else:
        retry_or_fail(run, step)


def _wait(run: Run, step: Step) -> None:
    if step.reason == "timer":
        run.succeed(step, ...)
    else:
        run.sleep(step, "timer")


def _plan(run: Run, step: Step) -> None:
    if not run.stopping:
        run.steps[PLANNED.key] = step_of(PLANNED)
    run.succeed(step, {"steps": [PLANNED.key]})


_DOES: dict[str, Callable[[Run, Step], None]] = {
    "echo": _echo,
    "far": _echo,
    "fails": _fails,
    "flaky": _flaky,
    "ask": lambda run, step: run.park(step, "input"),
    "wait": _wait,
    "plan": _plan,
    "calculate": lambda run, step: run.succeed(step, ...),
}


def late(step: Step) -> None:
    """The same in the hands of a worker that has lost it: its tool may run, and nothing is recorded."""
    if step.does == "flaky":
        _called(step)


def _call(run: Run, step: Step, trusted: bool) -> None:
    if step.does == "wire" and step.arguments is None:
        run.park(step, "approval")
        return
    if run.stopping or not trusted or step.begun:  # the gate stays shut, so it is given back
        crash(run, step, counted=False)
        return
    _called(step)
    if step.does == "unsent":
        retry_or_fail(run, step)
    elif step.does in ("unknown", "lost"):
        step.begun = True
        run.park(step, "outcome_unknown")
    else:
        run.succeed(step, "charged" if step.does in UNSAFE else step.arguments)


def _called(step: Step) -> None:
    if step.called is not None:
        step.called += 1


def retry_or_fail(run: Run, step: Step) -> None:
    if run.stopping:
        run.cancel_step(step)
        return
    step.failures += 1
    if step.failures < step.tries:
        run.sleep(step, "retry")
    else:
        run.fail(step, "tool_unavailable", "tool")


def _delegate(run: Run, step: Step) -> Run | None:
    made = None
    if step.child is None and not run.stopping:
        made = step.child = run_of(step.child_shape, parent=(run, step.key))
        if run.paused:
            made.pause("parent")
    run.park(step, "child")
    if step.child is not None and step.status == "cancelled":
        step.child.stop("parent")
    elif step.child is not None:
        step.child.tell_parent()
    return made


def crash(run: Run, step: Step, *, counted: bool = True) -> None:
    """A running step is taken from its worker (``counted``), or given back."""
    if step.begun and not run.stopping:
        run.park(step, "outcome_unknown")
    elif run.stopping:
        run.cancel_step(step)
    elif counted and step.crashes + 1 >= MAX_CRASHES:
        step.crashes += 1
        run.fail(step, "internal", "poison", why="poison")
    else:
        step.crashes += counted
        run.back(step, step.reason)


def resolve(run: Run, step: Step, outcome: str) -> None:
    """Somebody's word on a call that nobody saw the end of."""
    if outcome == "done":
        run.succeed(step, SAID)
    elif outcome == "failed":
        run.fail(step, "tool_failed", "tool")
    else:
        step.begun = False
        run.back(step)


# --- Runs made from runs ------------------------------------------------------------------
def retried(run: Run) -> Run:
    return _derived(run, set())


def forked(run: Run, key: str, *, live: bool) -> Run:
    if key == PLANNING.key:
        return run_of((PLANNING,), derived=True)
    redo = downstream(run, key)
    new = _derived(run, redo)
    for step in new.steps.values():
        old = run.steps[step.key]
        does = old.is_unsafe or old.recorded or old.does in ("flaky", "delegate")
        if step.key in redo and old.status == "succeeded" and does and not live:
            step.recorded, step.output = True, old.output
    return new


def downstream(run: Run, key: str) -> set[str]:
    found = {key}
    for step in run.steps.values():  # in plan order: parents come first
        if found & set(step.needs):
            found.add(step.key)
    return found


def _derived(run: Run, redo: set[str]) -> Run:
    steps = run.steps
    unknown = {
        key
        for key, step in steps.items()
        if key not in redo and step.begun and step.status not in ("succeeded", "failed")
    }
    ended = {key for key, step in steps.items() if key not in redo and step.status == "succeeded"}
    kept = _with_parents(run, ended | unknown) - unknown
    new = Run({}, derived=True)
    for key, old in steps.items():
        step = Step(key, old.does, old.needs, old.on_error, old.if_failed, old.tries, old.child_shape, asked=old.asked)
        step.left = sum(parent not in kept for parent in old.needs)
        step.status = "blocked" if step.left else "due"
        if key in kept:
            step.status, step.reason, step.output, step.code = old.status, "recorded", old.output, old.code
            step.left, step.kept = 0, True
        elif key in unknown:
            step.status, step.reason, step.begun, step.left = "waiting", "outcome_unknown", True, 0
        new.steps[key] = step
    return new


def _with_parents(run: Run, keys: Iterable[str]) -> set[str]:
    found: set[str] = set()
    left = list(keys)
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left += run.steps[key].needs
    return found


def same(found: Any, expected: Any) -> bool:
    """Equal; where the model leaves a value open (...) whatever is not null will do."""
    if expected is ...:
        return found is not None
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(same(found[name], value) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)
