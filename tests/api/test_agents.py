"""Agents by REST: defined by authors, read by all members, never seen from outside."""

from typing import Any

import pytest

from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs.models import Run

AGENTS = "/api/v1/agents"
DEFINITION = {
    "mode": "plan",
    "model": "",
    "instructions": "Be brief.",
    "tools": ["text.count", "time.now"],
    "output_schema": {"type": "object"},
    "limits": {"steps": 5},
}


@pytest.fixture
def clerk(author: Any) -> str:
    response = author.post(AGENTS, {"slug": "clerk", "name": "Clerk", **DEFINITION}, format="json")
    assert response.status_code == 201, response.content
    return f"{AGENTS}/clerk"


def test_an_author_defines_an_agent_and_a_viewer_reads_it(viewer: Any, clerk: str) -> None:
    body = viewer.get(clerk).json()

    assert (body["slug"], body["name"], body["description"]) == ("clerk", "Clerk", "")
    version = body["current_version"]
    assert {name: version[name] for name in DEFINITION} == DEFINITION
    assert version["number"] == 1
    assert [agent["slug"] for agent in viewer.get(AGENTS).json()["results"]] == ["clerk"]


def test_a_change_is_the_next_version_and_the_first_stays_as_it_was(author: Any, clerk: str) -> None:
    before = author.get(f"{clerk}/versions/1").json()

    response = author.post(f"{clerk}/versions", {"instructions": "Be long."}, format="json")

    assert (response.status_code, response.json()["number"]) == (201, 2)
    assert response.json()["tools"] == []
    assert author.get(clerk).json()["current_version"]["number"] == 2
    listed = author.get(f"{clerk}/versions").json()["results"]
    assert [version["number"] for version in listed] == [2, 1]
    assert listed[1] == before


def test_runs_keep_the_version_they_began_with(operator: Any, author: Any, clerk: str) -> None:
    goal = {"agent": "clerk", "goal": "Tell the time"}
    first = operator.post("/api/v1/runs", goal, format="json").json()
    author.post(f"{clerk}/versions", {}, format="json")
    second = operator.post("/api/v1/runs", goal, format="json").json()

    assert (first["agent_version"], second["agent_version"]) == (1, 2)
    assert operator.get(f"/api/v1/runs/{first['id']}").json()["agent_version"] == 1


def test_an_agent_is_renamed_and_set_back_to_an_older_version(author: Any, clerk: str) -> None:
    author.post(f"{clerk}/versions", {}, format="json")

    response = author.patch(clerk, {"name": "Scribe", "current_version": 1}, format="json")

    assert response.status_code == 200
    body = author.get(clerk).json()
    assert body == response.json()
    assert (body["name"], body["current_version"]["number"]) == ("Scribe", 1)
    assert author.post(f"{clerk}/versions", {}, format="json").json()["number"] == 3


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"name": ""}, [("name", "missing")]),
        ({"slug": "other"}, [("slug", "unknown_field")]),
        ({"instructions": "x"}, [("instructions", "unknown_field")]),
        ({"current_version": 9}, [("current_version", "unknown_version")]),
        ({"current_version": 10**30}, [("current_version", "unknown_version")]),
    ],
)
def test_a_wrong_change_changes_nothing(author: Any, clerk: str, problem: Any, body: Any, faults: Any) -> None:
    before = author.get(clerk).json()

    found = problem(author.patch(clerk, body, format="json"), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in found["errors"]] == faults
    assert author.get(clerk).json() == before


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"slug": "no spaces"}, [("slug", "type")]),
        ({"slug": None}, [("slug", "type")]),
        ({"mode": "dream"}, [("mode", "bad_value")]),
        ({"model": "gpt"}, [("model", "bad_value")]),
        ({"tools": "text.count"}, [("tools", "type")]),
        ({"tools": ["text.cuont", "time.now", "time.now"]}, [("tools[0]", "unknown_tool"), ("tools[2]", "duplicate")]),
        ({"output_schema": {"type": "thing"}}, [("output_schema.type", "bad_value")]),
        ({"output_schema": {"$ref": "http://example.com/s"}}, [("output_schema", "bad_value")]),
        ({"output_schema": {"pattern": "(?=a)b"}}, [("output_schema", "bad_value")]),
        ({"limits": {"steps": 0}}, [("limits.steps", "bad_value")]),
        ({"limits": {"steps": 1.5}}, [("limits.steps", "type")]),
        ({"limits": {"time_s": True}}, [("limits.time_s", "type")]),
        ({"limits": {"tokens": 0.5}}, [("limits.tokens", "type")]),
        ({"limits": {"money": 5}}, [("limits.money", "unknown_field")]),
        ({"color": "red", "name": 5}, [("name", "type"), ("color", "unknown_field")]),
    ],
    ids=str,
)
def test_a_faulty_agent_is_refused_with_all_its_faults(author: Any, problem: Any, fields: Any, faults: Any) -> None:
    body = problem(author.post(AGENTS, {"slug": "new", "name": "New", **fields}, format="json"), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == faults
    assert not Agent.objects.exists()


def test_a_faulty_version_leaves_the_current_one(author: Any, clerk: str, problem: Any) -> None:
    problem(author.post(f"{clerk}/versions", {"tools": ["nothing"]}, format="json"), 422, "invalid_input")

    assert author.get(clerk).json()["current_version"]["number"] == 1
    assert AgentVersion.objects.count() == 1


def test_a_slug_is_taken_once_in_a_workspace_and_free_in_another(
    author: Any, stranger: Any, clerk: str, problem: Any
) -> None:
    again = {"slug": "clerk", "name": "Another"}

    body = problem(author.post(AGENTS, again, format="json"), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [("slug", "taken")]
    assert Agent.objects.get(slug="clerk").name == "Clerk"
    assert stranger.post(AGENTS, again, format="json").status_code == 201


def test_an_agent_without_runs_is_deleted(author: Any, clerk: str, problem: Any) -> None:
    author.post(f"{clerk}/versions", {}, format="json")

    assert author.delete(clerk).status_code == 204
    problem(author.get(clerk), 404, "not_found")
    assert not AgentVersion.objects.exists()


def test_an_agent_with_runs_is_kept(author: Any, operator: Any, clerk: str, problem: Any) -> None:
    operator.post("/api/v1/runs", {"agent": "clerk", "goal": "Tell the time"}, format="json")
    before = author.get(clerk).json()

    problem(author.delete(clerk), 409, "invalid_transition")

    assert author.get(clerk).json() == before
    assert Run.objects.count() == 1


WRITES = [
    ("post", "", {"slug": "x", "name": "X"}),
    ("patch", "/clerk", {"name": "X"}),
    ("delete", "/clerk", None),
    ("post", "/clerk/versions", {}),
]
READS = ["/clerk", "/clerk/versions", "/clerk/versions/1"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("who", ["viewer", "operator"])
def test_below_author_nobody_changes_an_agent(
    request: Any, author: Any, clerk: str, problem: Any, who: str, method: str, path: str, body: Any
) -> None:
    before = author.get(AGENTS).json()
    client = request.getfixturevalue(who)

    problem(getattr(client, method)(AGENTS + path, body, format="json"), 403, "forbidden")

    assert author.get(AGENTS).json() == before
    assert AgentVersion.objects.count() == 1


@pytest.mark.parametrize(("method", "path", "body"), [*(("get", path, None) for path in READS), *WRITES[1:]])
def test_a_strangers_agent_cannot_be_told_from_one_that_is_not_there(
    author: Any, stranger: Any, clerk: str, problem: Any, method: str, path: str, body: Any
) -> None:
    before = author.get(AGENTS).json()

    theirs = problem(getattr(stranger, method)(AGENTS + path, body, format="json"), 404, "not_found")
    missing = getattr(stranger, method)(AGENTS + path.replace("clerk", "none"), body, format="json")

    assert theirs == problem(missing, 404, "not_found")
    assert author.get(AGENTS).json() == before
    assert "clerk" not in str(stranger.get(AGENTS).json())


@pytest.mark.parametrize("path", ["", *READS])
def test_nobody_reads_agents_without_a_session(nobody: Any, clerk: str, problem: Any, path: str) -> None:
    problem(nobody.get(AGENTS + path), 401, "not_authenticated")


@pytest.mark.parametrize("number", ["0", "2", "9" * 30])
def test_a_version_that_is_not_there_is_a_404(author: Any, clerk: str, problem: Any, number: str) -> None:
    problem(author.get(f"{clerk}/versions/{number}"), 404, "not_found")


def test_agents_are_listed_page_by_page(author: Any, counted: Any) -> None:
    for name in ("b", "a", "c"):
        author.post(AGENTS, {"slug": name, "name": name}, format="json")

    with counted() as statements:
        first = author.get(AGENTS, {"limit": 2}).json()
    assert len(statements) == 2, statements
    second = author.get(first["next"]).json()

    assert [agent["slug"] for agent in first["results"] + second["results"]] == ["a", "b", "c"]
