"""Versions: drafts change, published ones never do, retired ones get no new run."""

from typing import Any

import pytest
from django.db import IntegrityError, connection

from agentsys.agents import versions
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs.models import Run
from tests.support.threads import in_parallel

AGENTS = "/api/v1/agents"
CLERK = f"{AGENTS}/clerk"


def post(client: Any, path: str, **body: Any) -> Any:
    return client.post(f"{CLERK}{path}", body, format="json")


@pytest.fixture
def clerk(author: Any) -> Agent:
    made = author.post(AGENTS, {"slug": "clerk", "name": "Clerk", "tools": ["text.count"]}, format="json")
    assert made.status_code == 201, made.content
    return Agent.objects.get(slug="clerk")


@pytest.fixture
def draft(author: Any, clerk: Agent) -> str:
    made = post(author, "/versions", status="draft", instructions="Be brief.", tools=["text.count"])
    assert (made.status_code, made.json()["number"], made.json()["status"]) == (201, 2, "draft")
    return f"{CLERK}/versions/2"


def current(client: Any) -> int:
    return int(client.get(CLERK).json()["current_version"]["number"])


def test_a_draft_is_used_by_no_run_until_it_is_published(author: Any, operator: Any, draft: str) -> None:
    goal = {"agent": "clerk", "goal": 'Count the words in "a b"'}
    before = operator.post("/api/v1/runs", goal, format="json").json()

    published = author.post(f"{draft}/publish", {}, format="json")

    assert (published.status_code, published.json()["status"]) == (200, "published")
    after = operator.post("/api/v1/runs", goal, format="json").json()
    assert (before["agent_version"], after["agent_version"], current(author)) == (1, 2, 2)


def test_a_draft_changes_by_the_fields_that_are_sent(author: Any, draft: str) -> None:
    answer = author.patch(draft, {"instructions": "Be long.", "limits": {"steps": 5}}, format="json")

    body = answer.json()
    assert (answer.status_code, body["instructions"], body["limits"]) == (200, "Be long.", {"steps": 5})
    assert (body["tools"], body["status"]) == (["text.count"], "draft")
    assert author.get(draft).json() == body


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({"tools": ["text.cuont"]}, "tools[0]", "unknown_tool"),
        ({"status": "published"}, "status", "unknown_field"),
        ({"number": 7}, "number", "unknown_field"),
        ({"mode": None}, "mode", "type"),
        ({"instructions": "\x00"}, "", ""),
    ],
    ids=str,
)
def test_a_faulty_change_leaves_the_draft(author: Any, draft: str, body: Any, path: str, code: str) -> None:
    before = author.get(draft).json()

    answer = author.patch(draft, body, format="json")

    assert answer.status_code == (422 if path else 400)
    assert [(one["path"], one["code"]) for one in answer.json().get("errors", [])] == ([(path, code)] if path else [])
    assert author.get(draft).json() == before


def test_it_may_be_published_without_being_used(author: Any, draft: str) -> None:
    author.post(f"{draft}/publish", {"current": False}, format="json")

    assert (author.get(draft).json()["status"], current(author)) == ("published", 1)
    assert author.patch(CLERK, {"current_version": 2}, format="json").status_code == 200
    assert current(author) == 2


def test_what_a_draft_names_is_looked_up_again_when_it_is_published(author: Any, draft: str, problem: Any) -> None:
    AgentVersion.objects.filter(number=2).update(tools=["gone.tool"])

    body = problem(author.post(f"{draft}/publish", {}, format="json"), 422, "invalid_input")

    assert body["errors"][0]["code"] == "unknown_tool"
    assert (author.get(draft).json()["status"], current(author)) == ("draft", 1)


def test_a_draft_is_deleted(author: Any, draft: str, problem: Any) -> None:
    assert author.delete(draft).status_code == 204
    problem(author.get(draft), 404, "not_found")


def test_a_retired_version_gets_no_new_run(author: Any, draft: str, problem: Any) -> None:
    author.post(f"{draft}/publish", {}, format="json")

    assert post(author, "/versions/1/retire").json()["status"] == "retired"

    body = problem(author.patch(CLERK, {"current_version": 1}, format="json"), 422, "invalid_input")
    assert body["errors"][0]["code"] == "not_published"
    assert current(author) == 2


def test_runs_of_a_retired_version_go_on(author: Any, operator: Any, clerk: Agent, worker: Any) -> None:
    made = operator.post("/api/v1/runs", {"agent": "clerk", "goal": 'Count the words in "a b"'}, format="json").json()
    post(author, "/versions", tools=["text.count"])
    assert post(author, "/versions/1/retire").status_code == 200

    run = worker.finish(Run.objects.get(pk=made["id"]))

    assert (run.status, run.agent_version.number) == ("succeeded", 1), run.error
    key = run.steps.exclude(kind="plan").get().key
    again = operator.post(f"/api/v1/runs/{run.pk}/fork", {"from_step": key}, format="json")
    assert again.json()["agent_version"] == 1, again.content


@pytest.mark.parametrize(
    ("number", "verb", "why"),
    [
        (1, "publish", "published"),
        (1, "retire", "current version"),
        (2, "retire", "draft"),
    ],
)
def test_no_state_is_left_by_another_way(
    author: Any, draft: str, problem: Any, number: int, verb: str, why: str
) -> None:
    before = author.get(f"{CLERK}/versions").json()

    body = problem(post(author, f"/versions/{number}/{verb}"), 409, "invalid_transition")

    assert why in body["detail"]
    assert author.get(f"{CLERK}/versions").json() == before


def test_a_published_version_is_neither_changed_nor_deleted(author: Any, clerk: Agent, problem: Any) -> None:
    before = author.get(f"{CLERK}/versions/1").json()

    problem(author.patch(f"{CLERK}/versions/1", {"instructions": "x"}, format="json"), 409, "invalid_transition")
    problem(author.delete(f"{CLERK}/versions/1"), 409, "invalid_transition")

    assert author.get(f"{CLERK}/versions/1").json() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE agents_agentversion SET instructions = 'x' WHERE number = 1",
        "UPDATE agents_agentversion SET status = 'draft' WHERE number = 1",
        "UPDATE agents_agentversion SET status = 'retired' WHERE number = 1",
        "UPDATE agents_agentversion SET status = 'retired' WHERE number = 2",
        "UPDATE agents_agentversion SET number = 9 WHERE number = 2",
        "UPDATE agents_agent SET current_version_id = (SELECT id FROM agents_agentversion WHERE number = 2)",
    ],
)
def test_the_database_refuses_what_gets_past_the_services(author: Any, draft: str, change: str) -> None:
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(change)


@pytest.mark.django_db(transaction=True)
def test_of_publishing_and_deleting_a_draft_one_wins(author: Any, clerk: Agent) -> None:
    for _ in range(5):
        number = versions.add_version(clerk, definition=Definition(), status="draft").number

        def tried(what: Any, number: int = number) -> str:
            try:
                what(clerk, number)
            except Exception as error:
                return type(error).__name__
            return "done"

        ends = in_parallel(lambda: tried(versions.publish), lambda: tried(versions.discard))

        assert sorted(ends) in (["InvalidTransition", "done"], ["NotFound", "done"])
        left = AgentVersion.objects.filter(agent=clerk, number=number).first()
        assert (left.status if left else None) == ("published" if ends[0] == "done" else None)


def test_two_versions_are_compared(author: Any, viewer: Any, draft: str) -> None:
    body = viewer.get(f"{draft}/diff/1").json()

    assert body["changes"] == [{"field": "instructions", "before": "", "after": "Be brief."}]
    assert "+instructions: Be brief." in body["text"].splitlines()
    assert viewer.get(f"{CLERK}/versions/1/diff/1").json() == {"changes": [], "text": ""}


def test_what_is_too_long_is_compared_by_field(author: Any, draft: str) -> None:
    author.patch(draft, {"instructions": "\n".join("ab" for _ in range(5_000))}, format="json")

    body = author.get(f"{draft}/diff/1").json()

    assert ([change["field"] for change in body["changes"]], body["text"]) == (["instructions"], None)


OTHERS = [
    ("patch", "/versions/2", {"instructions": "x"}), ("delete", "/versions/2", None),
    ("post", "/versions/2/publish", {}), ("post", "/versions/1/retire", None),
]  # fmt: skip
READS = ["/export", "/versions/2/export", "/versions/2/diff/1"]


@pytest.mark.parametrize(("method", "path", "body"), OTHERS)
@pytest.mark.parametrize("who", ["viewer", "operator"])
def test_below_author_nobody_changes_a_version(
    request: Any, author: Any, draft: str, problem: Any, who: str, method: str, path: str, body: Any
) -> None:
    before = author.get(f"{CLERK}/versions").json()

    answer = getattr(request.getfixturevalue(who), method)(CLERK + path, body, format="json")

    problem(answer, 403, "forbidden")
    assert author.get(f"{CLERK}/versions").json() == before


@pytest.mark.parametrize(("method", "path", "body"), [*OTHERS, *(("get", path, None) for path in READS)])
def test_a_strangers_version_cannot_be_told_from_none(
    author: Any, stranger: Any, draft: str, problem: Any, method: str, path: str, body: Any
) -> None:
    theirs = problem(getattr(stranger, method)(CLERK + path, body, format="json"), 404, "not_found")
    missing = getattr(stranger, method)(f"{AGENTS}/none{path}", body, format="json")

    assert theirs == problem(missing, 404, "not_found")
    assert author.get(draft).json()["status"] == "draft"


@pytest.mark.parametrize("path", READS)
def test_nobody_reads_versions_without_a_session(nobody: Any, draft: str, problem: Any, path: str) -> None:
    problem(nobody.get(CLERK + path), 401, "not_authenticated")


@pytest.mark.parametrize("number", ["9", "9" * 30])
def test_a_version_that_is_not_there(author: Any, draft: str, problem: Any, number: str) -> None:
    for path in (f"versions/{number}/export", f"versions/{number}/diff/1", f"versions/1/diff/{number}"):
        problem(author.get(f"{CLERK}/{path}"), 404, "not_found")
    problem(author.post(f"{CLERK}/versions/{number}/publish", {}, format="json"), 404, "not_found")
