"""Run control by REST: by the right people, in the right state, with the answer that says what became of it."""

from typing import Any

import pytest

from agentsys.core.ids import uuid7
from agentsys.runs.models import Event, Run

RUNS = "/api/v1/runs"
ECHO = {"key": "a", "tool": "test.echo"}
CONTROLS = ("pause", "resume", "retry")

pytestmark = pytest.mark.usefixtures("agent")


def path_of(run: Any, *parts: str) -> str:
    return "/".join((RUNS, str(run.pk if isinstance(run, Run) else run), *parts))


def test_a_run_is_paused_and_resumed(operator: Any, submit: Any, worker: Any) -> None:
    run = submit([ECHO])

    paused = operator.post(path_of(run, "pause"))
    assert (paused.status_code, paused.json()["status"], paused.json()["reason"]) == (200, "paused", "operator")
    assert worker.work() == 0
    resumed = operator.post(path_of(run, "resume"))

    assert (resumed.status_code, resumed.json()["status"]) == (200, "queued")
    told = Event.objects.get(run=run, type="run.paused").data
    assert told == {"reason": "operator", "by": "our-operator"}
    assert worker.finish(run).status == "succeeded"


def test_what_cannot_be_done_in_its_state_is_a_conflict(operator: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = submit([ECHO])
    problem(operator.post(path_of(run, "resume")), 409, "invalid_transition")
    worker.finish(run)

    for name in ("pause", "resume"):
        problem(operator.post(path_of(run, name)), 409, "invalid_transition")


def test_a_failed_run_is_retried_once_a_key(operator: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = submit([ECHO, {"key": "b", "tool": "test.fail", "depends_on": ["a"]}])
    problem(operator.post(path_of(run, "retry")), 409, "invalid_transition")
    worker.finish(run)

    first = operator.post(path_of(run, "retry"), headers={"Idempotency-Key": "k"})
    again = operator.post(path_of(run, "retry") + "/", headers={"Idempotency-Key": "k"})

    assert (first.status_code, first.json()["status"]) == (202, "queued")
    assert first.json()["parent_run"] == str(run.pk)
    assert first["Location"] == again["Location"] == path_of(first.json()["id"])
    assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
    assert operator.get(first["Location"]).json()["usage"]["steps"] == 0
    submission = operator.post(RUNS, {"plan": {"steps": [ECHO]}}, format="json", headers={"Idempotency-Key": "k"})
    problem(submission, 422, "idempotency_key_reused")


@pytest.mark.parametrize("name", CONTROLS)
def test_only_an_operator_of_the_workspace_controls_its_runs(
    viewer: Any, stranger: Any, nobody: Any, submit: Any, problem: Any, name: str
) -> None:
    run = submit([ECHO])
    before = Event.objects.count()

    problem(viewer.post(path_of(run, name)), 403, "forbidden")
    problem(nobody.post(path_of(run, name)), 401, "not_authenticated")
    theirs = problem(stranger.post(path_of(run, name)), 404, "not_found")
    assert theirs == problem(stranger.post(path_of(uuid7(), name)), 404, "not_found")

    run.refresh_from_db()
    assert (run.status, Event.objects.count(), Run.objects.count()) == ("queued", before, 1)
