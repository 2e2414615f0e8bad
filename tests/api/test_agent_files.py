"""An agent as a YAML file: exported, kept, put back here or elsewhere."""

import json
from typing import Any

import pytest
import yaml

from agentsys.agents.documents import MAX_BYTES
from agentsys.agents.models import Agent, AgentVersion

AGENTS = "/api/v1/agents"
CLERK = f"{AGENTS}/clerk"
DEFINITION = {
    "mode": "react",
    "model": "openai-chat:small",
    "fallback_models": ["openai-chat:other"],
    "instructions": "Be brief.\n\n  - no: “quotes”\n# not a comment\n\tyes\n",
    "tools": ["text.count", "time.now"],
    "output_schema": {"type": "object", "properties": {"on": {"type": "boolean"}, "2020-01-01": {}}},
    "limits": {"steps": 5, "cost_usd": 0.5},
    "approvals": {"tools": ["text.count"]},
    "planning": {"max_turns": 5},
}


def put(client: Any, text: str | bytes, slug: str = "clerk", kind: str = "application/yaml") -> Any:
    return client.generic("PUT", f"{AGENTS}/{slug}", text, content_type=kind)


@pytest.fixture
def clerk(author: Any) -> Agent:
    made = author.post(
        AGENTS, {"slug": "clerk", "name": "Clerk: no", "description": "off", **DEFINITION}, format="json"
    )
    assert made.status_code == 201, made.content
    return Agent.objects.get(slug="clerk")


def test_a_file_makes_the_same_agent_in_another_workspace(author: Any, stranger: Any, clerk: Agent) -> None:
    exported = author.get(f"{CLERK}/export")
    assert exported["Content-Type"] == "application/yaml"
    assert exported["Content-Disposition"] == 'attachment; filename="clerk.v1.yaml"'

    answer = put(stranger, exported.content)

    assert answer.status_code == 201, answer.content
    mine, theirs = author.get(CLERK).json(), stranger.get(CLERK).json()
    for body in (mine, theirs):
        body.pop("created_at")
        body["current_version"].pop("created_at")
    assert mine == theirs
    assert {name: theirs["current_version"][name] for name in DEFINITION} == DEFINITION


def test_putting_it_back_changes_nothing(author: Any, clerk: Agent) -> None:
    before = author.get(CLERK).json()

    answer = put(author, author.get(f"{CLERK}/export").content)

    assert (answer.status_code, answer.json()) == (200, before)
    assert AgentVersion.objects.count() == 1


def test_a_file_that_says_otherwise_is_the_next_version(author: Any, clerk: Agent) -> None:
    file = yaml.safe_load(author.get(f"{CLERK}/versions/1/export").content) | {"mode": "plan", "name": "Scribe"}

    answer = put(author, yaml.safe_dump(file))

    body = answer.json()
    assert (answer.status_code, body["name"], body["current_version"]["number"]) == (200, "Scribe", 2)
    assert body["current_version"]["mode"] == "plan"


def test_a_file_may_become_a_draft_once(author: Any, clerk: Agent) -> None:
    for _ in range(2):
        answer = put(author, "name: Clerk\nmode: plan\nstatus: draft\n")
        assert (answer.status_code, answer.json()["current_version"]["number"]) == (200, 1)

    assert list(clerk.versions.values_list("number", "status")) == [(2, "draft"), (1, "published")]


def test_json_says_the_same(author: Any, clerk: Agent) -> None:
    file = yaml.safe_load(author.get(f"{CLERK}/export").content)

    assert put(author, json.dumps(file), kind="application/json").status_code == 200
    assert AgentVersion.objects.count() == 1


def test_dates_and_the_like_stay_texts(author: Any) -> None:
    answer = put(author, "name: 2024-01-01\ninstructions: 2024-01-01 10:00:00\n")

    assert answer.status_code == 201, answer.content
    assert answer.json()["name"] == "2024-01-01"


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("", 422, ""),
        ("just words", 422, "object"),
        ("name: [", 422, "YAML"),
        ("name: a\nname: b", 422, "twice"),
        ("name: &a x\ndescription: *a", 422, "aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nname: *b", 422, "aliases"),
        ("? [1, 2]\n: x", 422, "name is a text"),
        ("1: x\nname: a", 422, "name is a text"),
        ("name: !!python/object/apply:os.system [id]", 422, "YAML"),
        ("name: !!binary aGk=", 422, "YAML"),
        ("name: a\nlimits: !!set {x}", 422, "YAML"),
        ("name: a\nlimits: {cost_usd: .nan}", 400, "NaN"),
        ("name: a\nlimits: {cost_usd: .inf}", 400, "Infinity"),
        ('name: a\ninstructions: "\\0"', 400, "NUL"),
        ('name: a\ninstructions: "\\ud800"', 0, ""),
        ("name: " + "[" * 50_000, 422, "nested"),
        ("name: " + "{a: " * 50_000, 422, "nested"),
        ("- " * 50_000, 422, "nested"),
        ("name: a\nwings: 2", 422, "wings"),
        ("name: a\nslug: other", 422, "another agent"),
        ("name: a\nstatus: retired", 422, "status"),
        ("--- {name: a}\n--- {name: b}", 422, "YAML"),
        (b"name: \xff", 400, "UTF-8"),
        ("# " + "x" * MAX_BYTES, 413, "bytes"),
        ("\n".join(f"k{n}: 1" for n in range(20_000)), 422, "k0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_agents_file_changes_nothing(author: Any, clerk: Agent, text: Any, status: int, says: str) -> None:
    answer = put(author, text)

    assert answer.status_code == (status or answer.status_code)
    assert answer.status_code in (400, 413, 422), answer.content
    assert says in answer.content.decode(), answer.content[:500]
    assert (AgentVersion.objects.count(), Agent.objects.get().name) == (1, "Clerk: no")


def test_the_first_version_is_no_draft(author: Any, problem: Any) -> None:
    body = problem(put(author, "name: a\nstatus: draft"), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [("status", "bad_value")]
    assert not Agent.objects.exists()


@pytest.mark.parametrize("who", ["viewer", "operator"])
def test_below_author_nobody_puts_an_agent(request: Any, clerk: Agent, problem: Any, who: str) -> None:
    client = request.getfixturevalue(who)
    problem(put(client, "name: a"), 403, "forbidden")
    problem(put(client, "name: a", slug="fresh"), 403, "forbidden")
    assert AgentVersion.objects.count() == 1
    assert client.get(f"{CLERK}/export").status_code == 200
