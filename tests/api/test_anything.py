"""Whatever is sent, the answer is a success or a problem, never a bug.  The seed makes it the same each time.

Where to and what is taken from the OpenAPI schema, so that nothing that the API learns is left out.
"""

import json
import random
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from django.urls.resolvers import RoutePattern
from drf_spectacular.generators import SchemaGenerator

from agentsys.agents.models import Agent
from agentsys.api import urls
from agentsys.tools.models import McpServer
from tests.support.approvals import ask, wire

SEED, ROUNDS = 7, 30
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, 5.5, "", "x", "\u2028", "😀" * 50, "a" * 30_000, "${x}", "NaN",
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", [], {}, [[]], ["x"] * 2000,
    {"": 1}, {"a": {"b": [1, {"c": None}]}}, {"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"steps": [None, 5, {"key": 5}, {"key": "a", "kind": "wait", "arguments": {"seconds": 10**400}}]},
    {"steps": [{"key": "a", "tool": "test.echo", "arguments": {"value": "${a}"}}], "answer": "${a[?x==`1`]}"},
    {"steps": 10**400, "tokens": 10**400, "cost_usd": 10**400, "time_s": 10**400}, {"cost_usd": "1"}, [{"goal": "x"}],
)  # fmt: skip
CURSORS = ("2026-01-01T00:00:00Z", "9" * 40, "-5", "x", None, {}, [], "01890000-0000-7000-8000-000000000000")


#: In the place of an id, a slug, a key, a name.
NAMES = (
    "x", "0", "-1", "9" * 30, "a" * 300, "%00", "%F0%9F%98%80", "..", "%2e%2e%2fetc", "a%20b", "plan.1", "_", "%FF",
    "01890000-0000-7000-8000-000000000000", "01890000-0000-7000-8000-00000000000G", "\u2028",
)  # fmt: skip
KEYS = ("k", "", "x" * 300, "\u00e9", "\x7f", "a b", "-1", "9" * 40)
#: Not in the schema, for it is what shows it.
UNLISTED = {"/api/v1/schema", "/api/v1/docs"}


@dataclass(frozen=True)
class Operation:
    """What the schema says that one may send."""

    method: str
    path: str
    fields: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


@pytest.fixture(scope="module")
def operations(schema: dict[str, Any]) -> list[Operation]:
    """All that there are."""

    def fields(of: dict[str, Any]) -> tuple[str, ...]:
        found = [one["schema"] for one in of.get("requestBody", {}).get("content", {}).values()]
        known = [
            schema["components"]["schemas"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one for one in found
        ]
        return tuple(dict.fromkeys(name for one in known for name in one["properties"]))

    def named(of: dict[str, Any], where: str) -> tuple[str, ...]:
        return tuple(one["name"] for one in of.get("parameters", ()) if one["in"] == where)

    return [
        Operation(method, path, fields(of), named(of, "query"), named(of, "header"))
        for path, methods in schema["paths"].items()
        for method, of in methods.items()
    ]


@pytest.fixture
def places(submit: Any, worker: Any, agent: Any) -> dict[str, list[str]]:
    """What there is, by the name of its place in an address: two approvals are open."""
    asking = submit([wire(), ask()], files={"notes.txt": b"x"})
    worker.work()
    ids = [str(pk) for pk in asking.approvals.values_list("pk", flat=True)]
    run = submit([{"key": "a", "tool": "test.echo"}])
    server = McpServer.objects.create(
        workspace=agent.workspace, name="srv", transport="http", url="http://127.0.0.1:9/"
    )
    return {
        "run_id": [str(asking.pk), str(run.pk)], "approval_id": ids, "key": ["a", "wire"], "slug": [agent.slug],
        "server_id": [str(server.pk)], "number": ["1"], "since": ["1"], "lane": ["compute", "model"],
        "name": ["notes.txt", "test.echo"],
    }  # fmt: skip


@pytest.fixture
def spare(submit: Any, agent: Any) -> dict[str, str]:
    """What may end."""
    Agent.objects.create(workspace=agent.workspace, slug="spare", name="Spare")
    return {"cancel": str(submit([{"key": "a", "tool": "test.echo"}]).pk), "delete": "spare"}


def assert_answered(response: Any, sent: Any) -> None:
    assert response.status_code < 500, sent
    if response.status_code >= 400:
        assert response["Content-Type"] == "application/problem+json", sent


def address(operation: Operation, places: dict[str, list[str]], spare: dict[str, str], chance: random.Random) -> str:
    """Of something that there is, or of nothing."""

    def drawn(parameter: re.Match[str]) -> str:
        if chance.random() < 0.25:
            return chance.choice(NAMES)
        ends = spare.get(operation.method) or spare.get(operation.path.rpartition("/")[2])
        return ends or chance.choice(places[parameter[1]])

    return re.sub(r"{(\w+)}", drawn, operation.path)


def query(operation: Operation, chance: random.Random) -> dict[str, str]:
    names = [*operation.query, "unknown"] if chance.random() < 0.1 else operation.query
    drawn = {chance.choice(names): str(chance.choice(VALUES))[:2000] for _ in range(chance.randint(0, 2)) if names}
    if "cursor" in names and chance.random() < 0.4:
        parts = [chance.choice((0, 1, "x")), *chance.choices(CURSORS, k=chance.randint(0, 3))]
        drawn["cursor"] = urlsafe_b64encode(json.dumps(parts).encode()).decode()
    return drawn


def body(operation: Operation, chance: random.Random) -> bytes:
    fields = (*operation.fields, "unknown") if chance.random() < 0.1 or not operation.fields else operation.fields
    drawn = {chance.choice(fields): chance.choice(VALUES) for _ in range(chance.choice((1, 1, 2, 4)))}
    whole = {"goal": "x", **drawn} if operation.path.endswith("/runs") else drawn
    raw = json.dumps(whole, ensure_ascii=chance.random() < 0.5)
    raw = raw[: chance.randint(0, len(raw))] if chance.random() < 0.1 else raw
    return raw.encode()


def test_the_schema_leaves_no_address_out(schema: dict[str, Any]) -> None:
    routes = [str(one.pattern) for one in urls.urlpatterns if isinstance(one.pattern, RoutePattern)]
    known = {"/api/" + re.sub(r"<\w+:(\w+)>", r"{\1}", route) for route in routes if not route.endswith("/")}

    assert known - UNLISTED == set(schema["paths"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", ["bodies", "queries"])
def test_anything_that_is_sent_to_any_address_is_answered(
    member: Any, operations: list[Operation], places: Any, spare: Any, part: str
) -> None:
    client = member("admin")
    client.raise_request_exception = False
    chance = random.Random(SEED)
    chosen = [one for one in operations if bool(one.fields) == (part == "bodies")]
    for _ in range(ROUNDS):
        for operation in chance.sample(chosen, len(chosen)):
            to = address(operation, places, spare, chance)
            asked, raw = query(operation, chance), body(operation, chance) if operation.method != "get" else b""
            keys = {f"HTTP_{name.upper().replace('-', '_')}": chance.choice(KEYS) for name in operation.headers}
            sent = (operation.method, to, asked, raw[:500], keys)

            answer = client.generic(
                operation.method.upper(),
                to,
                raw,
                content_type="application/json",
                **keys,
                QUERY_STRING=urlencode(asked),
            )

            assert_answered(answer, sent)


@pytest.mark.parametrize("path", ["runs", "agents/assistant/versions", "runs/{run}/resume"])
@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_limit_of_400_digits_is_refused(author: Any, submit: Any, problem: Any, path: str, number: int) -> None:
    body = {"limits": dict.fromkeys(("steps", "tokens", "cost_usd", "time_s"), number)}
    body |= {"goal": "x"} if path == "runs" else {}

    run = submit([{"key": "a", "tool": "test.echo"}]).pk
    answer = author.post(f"/api/v1/{path.format(run=run)}", body, format="json")

    assert len(problem(answer, 422, "invalid_input")["errors"]) == 4
