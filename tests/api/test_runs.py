"""Runs by REST: submitted, found again, followed to their result, cancelled; each by the right people only."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from agentsys.core.ids import uuid7
from agentsys.runs.models import Event, Run, Step

RUNS = "/api/v1/runs"
PLAN = {
    "steps": [
        {"key": "hello", "tool": "test.echo", "arguments": {"value": {"words": ["a", "b"]}}},
        {"key": "again", "tool": "test.echo", "arguments": {"value": "${hello.words}"}},
    ],
    "answer": {"said": "${again}"},
}
RUN_FIELDS = {
    "id", "agent", "agent_version", "goal", "status", "reason", "result", "error", "labels", "usage",
    "plan_version", "parent_run", "created_at", "started_at", "finished_at",
}  # fmt: skip
STEP_FIELDS = {
    "id", "key", "kind", "tool", "lane", "status", "reason", "arguments", "output", "error", "attempt",
    "failures", "depends_on", "usage", "child_run_id", "started_at", "finished_at",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture
def post(operator: Any) -> Any:
    return lambda body: operator.post(RUNS, body, format="json")


@pytest.fixture
def waiting_step(submit: Any, worker: Any) -> Step:
    """A step whose unsafe call ended in silence."""
    steps = [{"key": "pay", "tool": "test.charge", "arguments": {"how": "unknown"}}]
    run = submit(steps, files={"a.txt": b"text"})
    worker.work()
    return Step.objects.get(run=run, status="waiting", reason="outcome_unknown")


def path_of(run: Any, *parts: str) -> str:
    return "/".join((RUNS, str(run.pk if isinstance(run, Run) else run), *parts))


def test_a_plan_goes_in_and_its_result_comes_out(post: Any, viewer: Any, worker: Any) -> None:
    response = post({"goal": "Say it twice", "plan": PLAN, "labels": {"team": "a"}})

    assert response.status_code == 202
    recorded = response.json()
    assert set(recorded) == RUN_FIELDS
    assert (recorded["agent"], recorded["agent_version"], recorded["status"]) == ("assistant", 1, "queued")
    assert response["Location"] == path_of(recorded["id"])
    worker.finish(Run.objects.get(pk=recorded["id"]))
    done = viewer.get(response["Location"]).json()
    assert (done["status"], done["result"], done["error"]) == ("succeeded", {"said": ["a", "b"]}, None)
    assert done["labels"] == {"team": "a"}
    assert done["usage"] == {
        "steps": 2, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0, "model_calls": 0, "tool_calls": 2,
    }  # fmt: skip
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


def test_its_steps_tell_what_they_did(post: Any, viewer: Any, worker: Any) -> None:
    run = Run.objects.get(pk=post({"plan": PLAN}).json()["id"])
    worker.finish(run)

    body = viewer.get(path_of(run, "steps")).json()

    assert set(body) == {"next", "previous", "results"}
    hello, again = body["results"]
    assert set(hello) == STEP_FIELDS
    assert (hello["key"], hello["status"], hello["attempt"]) == ("hello", "succeeded", 1)
    assert (again["depends_on"], again["arguments"]) == (["hello"], {"value": "${hello.words}"})
    assert again["output"] == ["a", "b"]
    assert viewer.get(path_of(run, "steps", "again")).json() == again


def test_a_failed_run_says_why(post: Any, viewer: Any, worker: Any) -> None:
    plan = {"steps": [{"key": "no", "tool": "test.fail", "arguments": {"message": "out of stock"}}]}
    run = Run.objects.get(pk=post({"plan": plan}).json()["id"])
    worker.finish(run)

    body = viewer.get(path_of(run)).json()

    assert (body["status"], body["reason"]) == ("failed", "tool")
    assert (body["error"]["code"], body["error"]["message"]) == ("tool_failed", "out of stock")


def test_one_page_follows_the_other_and_back(viewer: Any, submit: Any) -> None:
    made = [str(submit([{"key": "a", "tool": "test.echo"}]).pk) for _ in range(5)][::-1]

    first = viewer.get(RUNS, {"limit": 2}).json()
    second = viewer.get(first["next"]).json()
    third = viewer.get(second["next"]).json()

    pages = [[run["id"] for run in page["results"]] for page in (first, second, third)]
    assert pages == [made[:2], made[2:4], made[4:]]
    assert (first["previous"], third["next"]) == (None, None)
    assert viewer.get(third["previous"]).json()["results"] == second["results"]
    assert viewer.get(second["previous"]).json()["results"] == first["results"]


def test_runs_made_in_the_same_instant_are_each_listed_once(viewer: Any, submit: Any) -> None:
    made = {str(submit([{"key": "a", "tool": "test.echo"}]).pk) for _ in range(5)}
    Run.objects.update(created_at=Run.objects.values_list("created_at", flat=True)[0])

    seen, address = [], f"{RUNS}?limit=2"
    while address:
        page = viewer.get(address).json()
        seen += [run["id"] for run in page["results"]]
        address = page["next"]

    assert sorted(seen) == sorted(made)


def test_a_list_costs_the_same_for_one_run_and_for_many(viewer: Any, submit: Any, counted: Any) -> None:
    runs = []
    for count in (1, 9):
        runs += [submit([{"key": "a", "tool": "test.echo"}]) for _ in range(count)]

        with counted() as statements:
            assert len(viewer.get(RUNS).json()["results"]) == len(runs)
        assert len(statements) == 2, statements  # who asks, and the page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"red", "blue", "plain"}),
        ({"status": "cancelled"}, {"plain"}),
        ({"status": ["cancelled", "queued"]}, {"red", "blue", "plain"}),
        ({"label": "color=red"}, {"red"}),
        ({"label": ["color=blue", "team=a"]}, {"blue"}),
        ({"label": ["color=blue", "team=b"]}, set()),
        ({"label": "color"}, set()),
        ({"search": "x" * 5000}, set()),
        ({"agent": "assistant"}, {"red", "blue", "plain"}),
        ({"agent": "other"}, set()),
        ({"search": "PLA"}, {"plain"}),
        ({"search": "100%"}, set()),
        ({"created_after": "2020-01-01T00:00:00Z"}, {"red", "blue", "plain"}),
        ({"created_before": "2020-01-01"}, set()),
    ],
    ids=lambda given: str(sorted(given))[:60],  # a set shows itself in another order each time
)
def test_a_list_is_narrowed(viewer: Any, submit: Any, operator: Any, query: Any, found: set[str]) -> None:
    steps = [{"key": "a", "tool": "test.echo"}]
    submit(steps, goal="red", labels={"color": "red"})
    submit(steps, goal="blue", labels={"color": "blue", "team": "a"})
    operator.post(path_of(submit(steps, goal="plain"), "cancel"))

    body = viewer.get(RUNS, query).json()

    assert {run["goal"] for run in body["results"]} == found


def test_a_run_is_searched_by_its_id(viewer: Any, submit: Any) -> None:
    run, _ = (submit([{"key": "a", "tool": "test.echo"}]) for _ in range(2))

    assert [found["id"] for found in viewer.get(RUNS, {"search": str(run.pk)}).json()["results"]] == [str(run.pk)]


def test_an_operator_cancels_a_run_once(operator: Any, submit: Any, problem: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    response = operator.post(path_of(run, "cancel"))

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert not Step.objects.filter(run=run).exclude(status="cancelled").exists()
    problem(operator.post(path_of(run, "cancel")), 409, "invalid_transition")


def test_a_viewer_cancels_nothing(viewer: Any, submit: Any, problem: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    problem(viewer.post(path_of(run, "cancel")), 403, "forbidden")
    run.refresh_from_db()
    assert run.status == "queued"


@pytest.mark.parametrize(
    ("outcome", "status", "output"),
    [("done", "succeeded", {"id": 7}), ("not_done", "ready", None), ("failed", "failed", None)],
)
def test_a_person_decides_what_became_of_an_unsafe_call(
    operator: Any, waiting_step: Any, outcome: str, status: str, output: Any
) -> None:
    path = path_of(waiting_step.run_id, "steps", "pay", "resolve")

    response = operator.post(path, {"outcome": outcome, "result": output}, format="json")

    assert (response.status_code, response.json()["status"]) == (200, status)
    assert response.json()["output"] == output


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_input"),
        ({"outcome": "maybe"}, 422, "invalid_input"),
        ({"outcome": "done", "extra": 1}, 422, "invalid_input"),
    ],
)
def test_an_outcome_that_is_none_decides_nothing(
    operator: Any, waiting_step: Any, problem: Any, body: Any, status: int, code: str
) -> None:
    path = path_of(waiting_step.run_id, "steps", "pay", "resolve")

    problem(operator.post(path, body, format="json"), status, code)
    waiting_step.refresh_from_db()
    assert waiting_step.status == "waiting"


def test_a_step_that_waits_for_nobody_cannot_be_decided(operator: Any, submit: Any, problem: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    response = operator.post(path_of(run, "steps", "a", "resolve"), {"outcome": "done"}, format="json")
    missing = operator.post(path_of(run, "steps", "b", "resolve"), {"outcome": "done"}, format="json")

    problem(response, 409, "invalid_transition")
    problem(missing, 404, "not_found")


def test_events_are_listed_after_a_number(viewer: Any, submit: Any, worker: Any) -> None:
    run = worker.finish(submit([{"key": "a", "tool": "test.echo"}]))
    every = viewer.get(path_of(run, "events")).json()

    assert [event["seq"] for event in every["results"]] == [*range(1, len(every["results"]) + 1)]
    assert set(every["results"][0]) == {"seq", "type", "step", "at", "data"}
    assert every["results"][-1]["type"] == "run.succeeded"
    part = viewer.get(path_of(run, "events"), {"after": 1, "limit": 2}).json()
    assert part["results"] == every["results"][1:3]
    assert viewer.get(part["next"]).json()["results"] == every["results"][3:5]


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "-1"}, {"after": "9" * 30}, {"limit": "0"}, {"limit": "501"}]
)
def test_a_number_of_an_event_is_a_number(viewer: Any, submit: Any, problem: Any, query: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    problem(viewer.get(path_of(run, "events"), query), 422, "invalid_input")


READS = [(), ("steps",), ("steps", "pay"), ("events",), ("files",), ("files", "a.txt")]
WRITES = [("cancel",), ("steps", "pay", "resolve")]


@pytest.mark.parametrize("parts", READS + WRITES, ids=str)
def test_a_strangers_run_cannot_be_told_from_one_that_is_not_there(
    stranger: Any, waiting_step: Any, parts: tuple[str, ...], problem: Any
) -> None:
    def ask(run: Any) -> Any:
        if parts in WRITES:
            return stranger.post(path_of(run, *parts), {"outcome": "done"}, format="json")
        return stranger.get(path_of(run, *parts))

    before = Event.objects.count()
    theirs = problem(ask(waiting_step.run_id), 404, "not_found")

    assert theirs == problem(ask(uuid7()), 404, "not_found")
    waiting_step.refresh_from_db()
    assert (waiting_step.status, Event.objects.count()) == ("waiting", before)
    assert stranger.get(RUNS).json()["results"] == []


@pytest.mark.parametrize("parts", READS, ids=str)
def test_a_viewer_reads_all_of_a_run_and_nobody_else_does(
    viewer: Any, nobody: Any, waiting_step: Any, parts: tuple[str, ...], problem: Any
) -> None:
    assert viewer.get(path_of(waiting_step.run_id, *parts)).status_code == 200
    problem(nobody.get(path_of(waiting_step.run_id, *parts)), 401, "not_authenticated")


@pytest.mark.parametrize("parts", WRITES, ids=str)
def test_a_viewer_changes_nothing(viewer: Any, waiting_step: Any, parts: tuple[str, ...], problem: Any) -> None:
    problem(viewer.post(path_of(waiting_step.run_id, *parts), {"outcome": "done"}, format="json"), 403, "forbidden")
    waiting_step.refresh_from_db()
    assert waiting_step.status == "waiting"


@pytest.mark.parametrize("parts", [("steps", "none"), ("files", "none.txt"), ("files", "a%00b")], ids=str)
def test_a_part_that_is_not_there_is_a_404(viewer: Any, submit: Any, parts: Any, problem: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    problem(viewer.get(path_of(run, *parts)), 404, "not_found")


@pytest.mark.parametrize("path", [RUNS, "/api/v1/me", "/api/v1/tools", "/api/v1/agents", "/api/v1/workers"])
def test_a_slash_at_the_end_makes_no_difference(viewer: Any, path: str) -> None:
    plain, slashed = viewer.get(path), viewer.get(f"{path}/")

    assert plain.status_code == slashed.status_code == 200
    assert plain.json() == slashed.json()


def test_a_posts_body_survives_the_slash(operator: Any) -> None:
    response = operator.post(f"{RUNS}/", {"plan": PLAN}, format="json")

    assert response.status_code == 202
    assert urlsplit(response["Location"]).path == path_of(response.json()["id"])


def test_an_id_in_capitals_is_the_same_id(viewer: Any, submit: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    assert viewer.get(path_of(str(run.pk).upper())).json()["id"] == str(run.pk)
