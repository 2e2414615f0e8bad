"""Run control by REST: by the right people, in the right state, with the answer that says what became of it."""

from typing import Any

import pytest

from agentsys.core.ids import uuid7
from agentsys.runs.models import Event, Run
from agentsys.runs.store import messages
from agentsys.runs.store.claims import claim

RUNS = "/api/v1/runs"
ECHO = {"key": "a", "tool": "test.echo"}
CONTROLS = ("pause", "resume", "retry", "fork", "messages")

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


def test_a_run_is_forked_with_overrides(operator: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = worker.finish(submit([ECHO, {"key": "b", "tool": "test.echo", "arguments": {"value": "${input}"}}], input=1))

    made = operator.post(path_of(run, "fork"), {"from_step": "b", "input": 2}, format="json")
    as_it_was = operator.post(path_of(str(run.pk).upper(), "fork"), {"from_step": "b"}, format="json")

    assert (made.status_code, made.json()["parent_run"]) == (202, str(run.pk))
    assert made["Location"] == path_of(made.json()["id"])
    assert as_it_was["Location"] == path_of(as_it_was.json()["id"])
    results = [worker.finish(Run.objects.get(pk=one.json()["id"])).result for one in (made, as_it_was)]
    assert results == [{"a": None, "b": 2}, {"a": None, "b": 1}]
    assert len(operator.get(RUNS, {"parent": str(run.pk)}).json()["results"]) == 2


def test_a_message_is_kept_and_listed(operator: Any, viewer: Any, stranger: Any, submit: Any, problem: Any) -> None:
    run = submit([ECHO])

    sent = operator.post(path_of(run, "messages"), {"text": "Be brief."}, format="json")

    assert sent.status_code == 201
    assert {**sent.json(), "at": None} == {
        "seq": 1, "text": "Be brief.", "by": "our-operator", "at": None, "replan": False, "read_at": None,
        "read_by": "",
    }  # fmt: skip
    assert viewer.get(path_of(run, "messages")).json()["results"] == [sent.json()]
    problem(stranger.get(path_of(run, "messages")), 404, "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"text": ""}, {"text": " "}, {"text": 5}, {"text": "x" * 4001}, {"text": "a", "b": 1}]
)
def test_a_message_that_is_none_is_refused(operator: Any, submit: Any, problem: Any, body: Any) -> None:
    run = submit([ECHO])

    problem(operator.post(path_of(run, "messages"), body, format="json"), 422, "invalid_input")

    assert not run.messages.exists()


def test_a_finished_run_takes_no_message(operator: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = worker.finish(submit([ECHO]))

    problem(operator.post(path_of(run, "messages"), {"text": "late"}, format="json"), 409, "invalid_transition")


BAD_FORKS = [
    ({}, ["from_step"]),
    ({"from_step": "nobody"}, ["from_step"]),
    ({"from_step": 5}, ["from_step"]),
    ({"from_step": "a", "effects": "both"}, ["effects"]),
    ({"from_step": "a", "model": 7, "extra": 1}, ["extra", "model"]),
    ({"from_step": "a", "model": "no model"}, ["model"]),
    ({"from_step": "a", "arguments": {"a": []}}, ["arguments.a"]),
    ({"from_step": "a", "arguments": {"a": {"vale": 1}, "c": {}}}, ["arguments.c"]),
    ({"from_step": "a", "arguments": {"a": {"vale": 1}}}, ["arguments.a.vale"]),
]


@pytest.mark.parametrize(("body", "paths"), BAD_FORKS, ids=str)
def test_a_fork_that_cannot_be_is_refused_with_its_faults(
    operator: Any, submit: Any, problem: Any, body: Any, paths: list[str]
) -> None:
    run = submit([ECHO])

    refused = problem(operator.post(path_of(run, "fork"), body, format="json"), 422, "invalid_input")

    assert sorted(error["path"] for error in refused["errors"]) == paths
    assert Run.objects.count() == 1


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


# --- Planning anew --------------------------------------------------------------------------
def test_a_message_can_ask_for_another_plan(operator: Any, viewer: Any, submit: Any, worker: Any) -> None:
    run = submit([ECHO, {"key": "b", "tool": "test.far", "depends_on": ["a"]}], goal="do")
    worker.drain("compute")

    sent = operator.post(path_of(run, "messages"), {"text": "Compute 20 * 3", "replan": True}, format="json")

    assert (sent.status_code, sent.json()["replan"]) == (201, True)
    steps = {step["key"]: step for step in viewer.get(path_of(run, "steps")).json()["results"]}
    assert {key: step["status"] for key, step in steps.items()} == {
        "a": "succeeded",
        "b": "blocked",
        "plan.1": "ready",
    }
    worker.finish(run)
    old = viewer.get(path_of(run, "steps", "b.v0")).json()
    assert (old["status"], old["reason"], old["attempt"], old["started_at"]) == ("skipped", "superseded", 0, None)
    shown = viewer.get(path_of(run)).json()
    assert (shown["plan_version"], shown["result"]) == (1, 60)
    (told,) = Event.objects.filter(run=run, type="plan.revised").values_list("data", flat=True)
    assert (told["version"], told["superseded"]) == (1, ["b"])


def test_what_cannot_be_planned_anew_is_a_conflict(
    operator: Any, viewer: Any, stranger: Any, submit: Any, problem: Any, settings: Any
) -> None:
    settings.RUN_MAX_PLANS = 1
    fixed, full, body = submit([ECHO]), submit([ECHO], goal="do"), {"text": "Otherwise.", "replan": True}
    problem(operator.post(path_of(fixed, "messages"), body, format="json"), 409, "plan_fixed")
    problem(stranger.post(path_of(full, "messages"), body, format="json"), 404, "not_found")
    problem(viewer.post(path_of(full, "messages"), body, format="json"), 403, "forbidden")
    problem(operator.post(path_of(full, "messages"), body | {"replan": "perhaps"}, format="json"), 422, "invalid_input")
    assert operator.post(path_of(full, "messages"), body, format="json").status_code == 201

    held = claim("model", owner="w")
    assert messages.read(held) == ["Otherwise."]
    problem(operator.post(path_of(full, "messages"), body, format="json"), 409, "too_many_plans")
    assert (fixed.messages.count(), full.messages.count()) == (0, 1)


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"replan_on_failure": -1}, "bad_value"),
        ({"max_plans": 0}, "bad_value"),
        ({"max_plans": 10**30}, "bad_value"),
        ({"max_fan_out": True}, "type"),
        ({"max_repeats": "3"}, "type"),
        ({"often": 1}, "unknown_field"),
    ],
)
def test_an_agents_terms_of_planning_are_checked(author: Any, problem: Any, terms: Any, code: str) -> None:
    body = {"slug": "planner", "name": "Planner", "planning": terms}

    refused = problem(author.post("/api/v1/agents", body, format="json"), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in refused["errors"]] == [(f"planning.{next(iter(terms))}", code)]
    made = author.post("/api/v1/agents", body | {"planning": {"replan_on_failure": 2}}, format="json")
    assert made.json()["current_version"]["planning"] == {"replan_on_failure": 2}


def test_runs_are_found_by_their_reason(viewer: Any, stranger: Any, submit: Any, worker: Any) -> None:
    failed = worker.finish(submit([{"key": "a", "tool": "test.fail"}]))
    submit([ECHO])

    found = viewer.get(RUNS, {"reason": "tool"}).json()["results"]

    assert [run["id"] for run in found] == [str(failed.pk)]
    assert viewer.get(RUNS, {"reason": "poison"}).json()["results"] == []
    assert stranger.get(RUNS, {"reason": "tool"}).json()["results"] == []
