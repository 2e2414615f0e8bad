"""Whatever is sent, the answer is a success or a problem, never a bug.  The seed makes it the same each time."""

import json
import random
from base64 import urlsafe_b64encode
from typing import Any

import pytest

SEED = 7
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, 5.5, "", "x", "\u2028", "😀" * 50, "a" * 30_000, "${x}", "NaN",
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", [], {}, [[]], ["x"] * 2000,
    {"": 1}, {"a": {"b": [1, {"c": None}]}}, {"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"steps": [None, 5, {"key": 5}, {"key": "a", "kind": "wait", "arguments": {"seconds": 10**400}}]},
    {"steps": [{"key": "a", "tool": "test.echo", "arguments": {"value": "${a}"}}], "answer": "${a[?x==`1`]}"},
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
}  # fmt: skip
LISTS = (
    "runs", "agents", "workers", "runs/{run}/steps", "runs/{run}/events", "runs/{run}/files",
    "agents/assistant/versions",
)  # fmt: skip
QUERIES = ("cursor", "limit", "status", "agent", "label", "created_after", "created_before", "search", "after")
CURSORS = ("2026-01-01T00:00:00Z", "9" * 40, "-5", "x", None, {}, [], "01890000-0000-7000-8000-000000000000")


@pytest.fixture
def run_id(submit: Any) -> str:
    return str(submit([{"key": "a", "tool": "test.echo"}]).pk)


def assert_answered(response: Any, sent: Any) -> None:
    assert response.status_code < 500, sent
    if response.status_code >= 400:
        assert response["Content-Type"] == "application/problem+json", sent


def test_any_body_is_answered(author: Any, run_id: str) -> None:
    author.raise_request_exception = False
    chance = random.Random(SEED)
    for _ in range(500):
        path = chance.choice(list(BODIES))
        body = {chance.choice(BODIES[path]): chance.choice(VALUES) for _ in range(chance.randint(1, 4))}
        raw = json.dumps({"goal": "x", **body} if path == "runs" else body, ensure_ascii=chance.random() < 0.5)
        raw = raw[: chance.randint(0, len(raw))] if chance.random() < 0.1 else raw

        response = author.post(f"/api/v1/{path.format(run=run_id)}", raw.encode(), content_type="application/json")

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

        assert_answered(author.get(f"/api/v1/{path}", query), (path, query))
