"""Runs by REST: submitted, found again, followed to their result, cancelled; each by the right people only."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from agentsys.accounts.models import Role
from agentsys.core.ids import uuid7
from agentsys.runs.models import Event, Run, RunFile, Step

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
    "failures", "depends_on", "usage", "started_at", "finished_at",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture
def post(operator: Any) -> Any:
    def send(body: Any, key: str = "", to: Any = None) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return (to or operator).post(RUNS, body, format="json", headers=headers)

    return send


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


def test_submitting_costs_few_queries(post: Any, counted: Any) -> None:
    post({"plan": PLAN})

    with counted() as statements:
        assert post({"plan": PLAN}).status_code == 202

    assert 0 < len(statements) <= 8, statements


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUTHOR, Role.ADMIN])
def test_operators_and_above_submit(post: Any, member: Any, role: str) -> None:
    client = member(role) if role != Role.OPERATOR else None

    assert post({"plan": PLAN}, to=client).status_code == 202


def test_a_viewer_may_not_submit_and_nothing_is_stored(post: Any, viewer: Any, problem: Any) -> None:
    problem(post({"plan": PLAN}, to=viewer), 403, "forbidden")
    assert not Run.objects.exists()


def test_nobody_submits_without_a_session(post: Any, nobody: Any, problem: Any) -> None:
    problem(post({"plan": PLAN}, to=nobody), 401, "not_authenticated")
    assert not Run.objects.exists()


def test_an_agent_of_another_workspace_is_not_there(post: Any, stranger: Any, problem: Any) -> None:
    problem(post({"plan": PLAN, "agent": "elsewhere"}), 404, "not_found")
    assert not Run.objects.exists()
    assert post({"goal": "Tell the time"}, to=stranger).status_code == 202
    assert Run.objects.get().workspace.slug == "theirs"


def test_a_plan_is_refused_with_all_its_faults(post: Any, problem: Any) -> None:
    steps = [{"key": "a", "tool": "test.ecko"}, {"key": "a", "tool": "test.echo", "arguments": {"x": 1}}]

    body = problem(post({"plan": {"steps": steps}}), 422, "plan_invalid")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [
        ("steps[1].key", "duplicate_key"),
        ("steps[0].tool", "unknown_tool"),
        ("steps[1].arguments.x", "argument_unknown"),
    ]
    assert not Run.objects.exists()


def test_the_same_key_and_body_give_the_same_run(post: Any) -> None:
    first, second = (post({"plan": PLAN}, key="order-1") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert Run.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(post: Any, problem: Any) -> None:
    post({"plan": PLAN}, key="order-1")

    problem(post({"plan": PLAN, "goal": "other"}, key="order-1"), 422, "idempotency_key_reused")
    assert Run.objects.count() == 1


def test_a_key_is_a_workspaces_own(post: Any, stranger: Any) -> None:
    ours, theirs = post({"plan": PLAN}, key="k").json(), post({"plan": PLAN}, key="k", to=stranger).json()

    assert ours["id"] != theirs["id"]


@pytest.mark.parametrize("key", ["x" * 201, "a\x00b", "a\tb"])
def test_a_key_that_cannot_be_kept_is_refused(post: Any, problem: Any, key: str) -> None:
    problem(post({"plan": PLAN}, key=key), 422, "invalid_input")
    assert not Run.objects.exists()


def test_files_come_as_texts_in_json(post: Any, viewer: Any) -> None:
    run = post({"plan": PLAN, "files": {"a.txt": "héllo", "b.txt": ""}}).json()["id"]

    listed = viewer.get(path_of(run, "files")).json()["results"]

    assert [(f["name"], f["size"], f["written_by"]) for f in listed] == [("a.txt", 6, ""), ("b.txt", 0, "")]
    response = viewer.get(path_of(run, "files", "a.txt"))
    assert response.content == "héllo".encode()
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="a.txt"'
    assert response["X-Content-Type-Options"] == "nosniff"


def test_a_form_carries_files_of_any_content(operator: Any, viewer: Any) -> None:
    page = SimpleUploadedFile("näme <b>.html", b"<script>alert(1)</script>\x00\xff", "text/html")
    form = {"plan": json.dumps(PLAN), "goal": "With files", "labels": '{"a": "b"}', "priority": "3", "files": page}

    response = operator.post(RUNS, form, format="multipart")

    assert response.status_code == 202, response.content
    run = Run.objects.get()
    assert (run.goal, run.labels, run.priority) == ("With files", {"a": "b"}, 3)
    got = viewer.get(path_of(run, "files", "näme <b>.html"))
    assert got.content == b"<script>alert(1)</script>\x00\xff"
    assert got["Content-Disposition"].startswith("attachment;")
    assert got["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("form", "status", "says"),
    [
        ({"plan": "{"}, 400, "not JSON"),
        ({"plan": '{"steps": [], "steps": []}'}, 400, "twice"),
        ({"goal": ["a", "b"]}, 422, "more than once"),
        ({"goal": "x", "color": "red"}, 422, "no field"),
        ({"goal": "x", "other": SimpleUploadedFile("a", b"x")}, 422, "part named files"),
        ({"goal": "x", "files": [SimpleUploadedFile("a", b"1"), SimpleUploadedFile("a", b"2")]}, 422, "two files"),
        ({"goal": "x", "files": "text"}, 422, "object"),
        ({"goal": "a\x00b"}, 400, "NUL"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_form_is_as_strict_as_json(operator: Any, form: Any, status: int, says: str) -> None:
    response = operator.post(RUNS, form, format="multipart")

    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert says in json.dumps(response.json())
    assert not Run.objects.exists()
    assert not RunFile.objects.exists()


@pytest.mark.parametrize("raw", [b"", b"--x", b"--x\r\n\r\n", b"no boundary here"])
def test_a_broken_form_is_a_400_or_a_422(operator: Any, raw: bytes) -> None:
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
        response = operator.post(RUNS, raw, content_type=kind)

        assert response.status_code in (400, 422), response.content
        assert response["Content-Type"] == "application/problem+json"
    assert not Run.objects.exists()


def test_only_a_submission_may_be_a_form(operator: Any, submit: Any, problem: Any) -> None:
    run = submit([{"key": "a", "tool": "test.echo"}])

    problem(operator.post(path_of(run, "steps", "a", "resolve"), {}, format="multipart"), 415, "unsupported_media_type")


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
    ids=str,
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
