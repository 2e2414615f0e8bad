"""Whatever is sent, the answer is a success or a problem, never a bug.  The seed makes it the same each time."""

import json
import random
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from tests.support.approvals import ask, wire

SEED = 7
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, 5.5, "", "x", "\u2028", "😀" * 50, "a" * 30_000, "${x}", "NaN",
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", [], {}, [[]], ["x"] * 2000,
    {"": 1}, {"a": {"b": [1, {"c": None}]}}, {"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"steps": [None, 5, {"key": 5}, {"key": "a", "kind": "wait", "arguments": {"seconds": 10**400}}]},
    {"steps": [{"key": "a", "tool": "test.echo", "arguments": {"value": "${a}"}}], "answer": "${a[?x==`1`]}"},
    {"steps": 10**400, "tokens": 10**400, "cost_usd": 10**400, "time_s": 10**400}, {"cost_usd": "1"}, [{"goal": "x"}],
)  # fmt: skip
DEFINITION = ("mode", "model", "instructions", "tools", "output_schema", "limits")
BODIES = {
    "runs": (
        "agent", "goal", "plan", "input", "files", "priority", "start_at", "deadline_s", "limits", "labels",
        "model", "output_schema", "effects",
    ),
    "agents": ("slug", "name", "description", *DEFINITION),
    "agents/assistant/versions": DEFINITION,
    "auth/token": ("username", "password", "workspace"),
    "auth/refresh": ("refresh",),
    "auth/logout": ("refresh",),
    "runs/{run}/steps/a/resolve": ("outcome", "result"),
    "runs/{run}/messages": ("text",),
    "runs/{run}/resume": ("limits",),
    "runs/{run}/fork": ("from_step", "input", "model", "arguments", "effects"),
    "runs/batch": ("runs",),
    **{f"approvals/{{{kind}}}/{verb}": ("digest", "reason", "arguments", "answer")
       for kind in ("call", "question") for verb in ("approve", "edit", "deny", "answer")},
    "PATCH agents/assistant": ("name", "description", "enabled"),
    "PATCH budgets/workspace": ("tokens", "cost_usd"),
    "PATCH budgets/agents/assistant": ("tokens", "cost_usd"),
    "PATCH lanes/compute": ("limit", "weight"),
}  # fmt: skip
LISTS = (
    "runs", "agents", "approvals", "budgets", "lanes", "tools", "workers", "runs/{run}/messages",
    "runs/{run}/steps",
    "runs/{run}/events", "runs/{run}/files", "runs/{run}/budget", "agents/assistant/versions",
)  # fmt: skip
QUERIES = (
    "cursor", "limit", "status", "agent", "label", "created_after", "created_before", "search", "after", "run", "state",
    "parent",
)  # fmt: skip
CURSORS = ("2026-01-01T00:00:00Z", "9" * 40, "-5", "x", None, {}, [], "01890000-0000-7000-8000-000000000000")


@pytest.fixture
def admin(member: Any) -> Any:
    return member("admin")


@pytest.fixture
def run_id(submit: Any) -> str:
    return str(submit([{"key": "a", "tool": "test.echo"}]).pk)


def assert_answered(response: Any, sent: Any) -> None:
    assert response.status_code < 500, sent
    if response.status_code >= 400:
        assert response["Content-Type"] == "application/problem+json", sent


@pytest.fixture
def asked(submit: Any, worker: Any) -> dict[str, str]:
    """The ids of two approvals that are open; a refusal leaves them so."""
    run = submit([wire(), ask()])
    worker.work()
    kinds = {"approval": "call", "input": "question"}
    return {kinds[kind]: str(pk) for pk, kind in run.approvals.values_list("pk", "kind")}


@pytest.mark.django_db(transaction=True)
def test_any_body_is_answered(admin: Any, run_id: str, asked: dict[str, str]) -> None:
    admin.raise_request_exception = False
    chance = random.Random(SEED)
    for _ in range(700):
        path = chance.choice(list(BODIES))
        body = {chance.choice(BODIES[path]): chance.choice(VALUES) for _ in range(chance.randint(1, 4))}
        raw = json.dumps({"goal": "x", **body} if path == "runs" else body, ensure_ascii=chance.random() < 0.5)
        raw = raw[: chance.randint(0, len(raw))] if chance.random() < 0.1 else raw

        verb, _, place = path.rpartition(" ")
        send = admin.patch if verb else admin.post
        response = send(f"/api/v1/{place.format(run=run_id, **asked)}", raw.encode(), content_type="application/json")

        assert_answered(response, (path, raw[:500]))


def test_any_question_is_answered(author: Any, run_id: str) -> None:
    author.raise_request_exception = False
    chance = random.Random(SEED)
    for _ in range(400):
        path = chance.choice(LISTS).format(run=run_id)
        query = {chance.choice(QUERIES): str(chance.choice(VALUES))[:2000] for _ in range(2)}
        if chance.random() < 0.4:
            parts = [chance.choice((0, 1, "x")), *chance.choices(CURSORS, k=chance.randint(0, 3))]
            query["cursor"] = urlsafe_b64encode(json.dumps(parts).encode()).decode()

        answer = author.get(f"/api/v1/{path}", query)
        assert_answered(answer, (path, query))
        for error in answer.json().get("errors", []):  # what this list does not know is left out, and it is asked again
            if error["code"] == "unknown_parameter":
                del query[error["path"]]
        assert_answered(author.get(f"/api/v1/{path}", query), (path, query))


@pytest.mark.parametrize("path", ["runs", "agents/assistant/versions", "runs/{run}/resume"])
@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_limit_of_400_digits_is_refused(author: Any, run_id: str, problem: Any, path: str, number: int) -> None:
    body = {"limits": dict.fromkeys(("steps", "tokens", "cost_usd", "time_s"), number)}
    body |= {"goal": "x"} if path == "runs" else {}

    answer = author.post(f"/api/v1/{path.format(run=run_id)}", body, format="json")

    assert len(problem(answer, 422, "invalid_input")["errors"]) == 4
