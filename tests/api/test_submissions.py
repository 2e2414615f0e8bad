"""Submissions by REST: who may, what is refused, keys that replay, files in texts and in forms."""

import json
from typing import Any

import psycopg
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from agentsys.accounts.models import Role
from agentsys.runs.models import Run, RunFile

RUNS = "/api/v1/runs"
PLAN = {"steps": [{"key": "hello", "tool": "test.echo", "arguments": {"value": 1}}]}

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture
def post(operator: Any) -> Any:
    def send(body: Any, key: str = "", to: Any = None) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return (to or operator).post(RUNS, body, format="json", headers=headers)

    return send


def path_of(run: Any, *parts: str) -> str:
    return "/".join((RUNS, str(run.pk if isinstance(run, Run) else run), *parts))


def test_submitting_costs_few_queries(post: Any, counted: Any) -> None:
    post({"plan": PLAN})

    with counted() as statements:
        assert post({"plan": PLAN}).status_code == 202

    assert 0 < len(statements) <= 8, statements


@pytest.mark.promise("P1")
@pytest.mark.django_db(transaction=True)
def test_what_was_answered_is_committed(post: Any) -> None:
    answer = post({"plan": PLAN})

    assert answer.status_code == 202
    connection.ensure_connection()
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password) as other:  # which sees nothing but what is committed
        (seen,) = other.execute(
            "SELECT status, (SELECT count(*) FROM runs_step s WHERE s.run_id = r.id),"
            " (SELECT count(*) FROM runs_event e WHERE e.run_id = r.id) FROM runs_run r WHERE id = %s",
            [answer.json()["id"]],
        ).fetchall()
        assert seen == ("queued", 1, 1)
        assert other.execute("SHOW synchronous_commit").fetchone() == ("on",)


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
