"""Steps by REST: what a delegate step has started is named."""

from typing import Any

import pytest

from agentsys.runs import forks
from agentsys.runs.forks import Fork
from agentsys.runs.models import Run

RUNS = "/api/v1/runs"
ECHO = {"key": "a", "tool": "test.echo"}
DELEGATE = {"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [ECHO]}}}

pytestmark = pytest.mark.usefixtures("agent")


def test_a_delegate_step_names_its_child_run_in_both_views_and_no_other_step_does(
    viewer: Any, submit: Any, worker: Any
) -> None:
    run = submit([DELEGATE, ECHO])
    assert viewer.get(f"{RUNS}/{run.pk}/steps/d").json()["child_run_id"] is None
    worker.finish(run)
    child = str(Run.objects.get(parent_step__isnull=False).pk)

    listed = viewer.get(f"{RUNS}/{run.pk}/steps").json()["results"]

    assert {step["key"]: step["child_run_id"] for step in listed} == {"d": child, "a": None}
    assert viewer.get(f"{RUNS}/{run.pk}/steps/d").json()["child_run_id"] == child
    assert viewer.get(f"{RUNS}/{child}").json()["parent_run"] == str(run.pk)
    assert viewer.get(f"{RUNS}/{child}/steps/a").json()["child_run_id"] is None


def test_a_kept_step_of_a_fork_has_started_nothing_there(viewer: Any, submit: Any, worker: Any) -> None:
    run = worker.finish(submit([DELEGATE, {**ECHO, "depends_on": ["d"]}]))
    made, _ = forks.fork(run, Fork(from_step="a"), user=None)

    assert viewer.get(f"{RUNS}/{made.pk}/steps/d").json()["child_run_id"] is None


def test_a_strangers_step_is_not_there(stranger: Any, submit: Any, problem: Any) -> None:
    run = submit([DELEGATE])

    problem(stranger.get(f"{RUNS}/{run.pk}/steps/d"), 404, "not_found")
