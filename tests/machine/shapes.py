"""What is submitted: small plans of every kind of step, drawn by Hypothesis and written as REST takes them."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

#: What a step does, and in which lane.  ``lost`` and ``unknown`` are calls of which nobody sees the end.
LANES = {
    "echo": "compute", "far": "network", "fails": "compute", "flaky": "compute", "charge": "compute",
    "unknown": "compute", "lost": "compute", "unsent": "compute", "wire": "compute", "ask": "system",
    "wait": "system", "delegate": "system", "plan": "model", "calculate": "compute",
}  # fmt: skip
#: What may not be repeated, and how its tool is told to behave.
UNSAFE = {"charge": "ok", "unknown": "unknown", "lost": "unavailable", "unsent": "not_sent"}
_KINDS = tuple(kind for kind in LANES if kind not in ("plan", "calculate"))
_OFTEN = ("echo", "charge", "wire", "wire", "ask", "unknown", "delegate", *_KINDS)
#: Who needs whom: alone, a line, a diamond, side by side, two parents and a tail.
GRAPHS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((),), ((), (0,)), ((), (0,), (1,)), ((), (0,), (0,), (1, 2)), ((), (), ()), ((), (), (0, 1), (2,)),
)  # fmt: skip


@dataclass(frozen=True)
class StepShape:
    key: str
    does: str
    needs: tuple[str, ...] = ()
    on_error: str = "fail"
    if_failed: str = "skip"
    tries: int = 2
    child: "tuple[StepShape, ...]" = field(default=())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Short, for a failure prints every act."""
        how = (self.key, self.does, "".join(self.needs), self.on_error, self.if_failed, str(self.tries))
        printer.text(f"<{' '.join(how)}{' ' + str([one.does for one in self.child]) if self.child else ''}>")


Shape = tuple[StepShape, ...]
#: A goal, the step that plans it, what is planned, and what comes of it.
GOAL, GOAL_RESULT = "Calculate 6 * 7", 42
PLANNING, PLANNED = StepShape("plan.1", "plan"), StepShape("calculate", "calculate")


@st.composite
def shapes(draw: Any, does: tuple[str, ...] = _OFTEN, graphs: Any = GRAPHS) -> Shape:
    """A plan that is valid."""
    steps: list[StepShape] = []
    for n, needs in enumerate(draw(st.sampled_from(graphs))):
        kind = draw(st.sampled_from(does))
        child = draw(CHILDREN) if kind == "delegate" else ()
        how = {
            "on_error": draw(st.sampled_from(("fail", "continue"))),
            "if_failed": draw(st.sampled_from(("skip", "null"))),
            "tries": draw(st.integers(1, 2)),
        }
        steps.append(StepShape(f"s{n}", kind, tuple(f"s{m}" for m in needs), child=child, **how))
    return tuple(steps)


CHILDREN = shapes(("echo", "echo", "fails", "charge", "unknown", "ask", "wait"), GRAPHS[:2])


def plan(shape: Shape) -> dict[str, Any]:
    return {"steps": [_step(step) for step in shape]}


def _step(step: StepShape) -> dict[str, Any]:
    how = {"key": step.key, "depends_on": list(step.needs), "on_error": step.on_error, "if_failed": step.if_failed}
    return {**how, "max_attempts": step.tries, **_work(step)}


def _work(step: StepShape) -> dict[str, Any]:
    if step.does in UNSAFE:
        return {"tool": "test.charge", "arguments": {"how": UNSAFE[step.does]}}
    value = {"value": {"is": step.key, "of": [f"${{{key}}}" for key in step.needs]}}
    return {
        "echo": {"tool": "test.echo", "arguments": value},
        "far": {"tool": "test.far", "arguments": value},
        "fails": {"tool": "test.fail"},
        "flaky": {"tool": "test.flaky", "arguments": {"failures": 1}},
        "wire": {"tool": "test.wire", "arguments": {"to": step.key}},
        "ask": {"kind": "ask", "objective": "Who?", "arguments": {"schema": {"type": "string"}}},
        "wait": {"kind": "wait", "arguments": {"seconds": 3600}},
        "delegate": {"kind": "delegate", "arguments": {"plan": plan(step.child)}},
    }[step.does]
