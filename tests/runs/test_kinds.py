"""What a plan may ask for, something can do."""

import pytest

from agentsys.core.errors import PlanInvalid
from agentsys.runs.handlers import HANDLERS
from agentsys.runs.states import StepKind
from tests.support.plans import parse

STEPS = {
    "tool": {"tool": "time.now"},
    "wait": {"arguments": {"seconds": 0}},
    "answer": {"objective": "Say it."},
    "act": {"objective": "Find out."},
    "ask": {"objective": "Which?"},
    "delegate": {"objective": "Do it."},
}


def parsed(kind):
    try:
        return parse([{"key": "a", "kind": kind, **STEPS.get(kind, {})}]).steps[0].kind
    except PlanInvalid:
        return None


def test_every_kind_that_a_plan_may_have_has_a_handler():
    let_through = {parsed(kind) for kind in StepKind} - {None}

    assert let_through == {"tool", "wait", "answer", "ask", "delegate", "act"}
    assert let_through <= HANDLERS.keys()


@pytest.mark.parametrize("fields", [{"max_attempts": 1}, {"timeout_s": 0.5}], ids=str)
def test_a_wait_takes_the_limits_of_any_step_and_outlasts_them(submit, worker, step_of, fields):
    run = submit([{"key": "a", "kind": "wait", "arguments": {"seconds": 0.02}, **fields}])

    worker.finish(run)

    step = step_of(run, "a")
    assert (run.status, step.failures) == ("succeeded", 0)
    assert {name: getattr(step, name) for name in fields} == fields
