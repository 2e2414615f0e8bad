"""POST runs/batch: many runs in one request, all or none."""

from typing import Any

import pytest

from agentsys.accounts.models import Role
from agentsys.runs.models import Run

BATCH = "/api/v1/runs/batch"
PLAN = {"steps": [{"key": "hello", "tool": "test.echo", "arguments": {"value": 1}}]}

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture
def post(operator: Any) -> Any:
    def send(body: Any, key: str = "", to: Any = None, path: str = BATCH) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return (to or operator).post(path, body, format="json", headers=headers)

    return send


def of(count: int, **fields: Any) -> dict[str, Any]:
    return {"runs": [{"plan": PLAN, "labels": {"n": str(n)}, **fields} for n in range(count)]}


@pytest.mark.parametrize("path", [BATCH, BATCH + "/"])
def test_the_answer_has_every_run_in_order_as_it_is_read_later(post: Any, operator: Any, path: str) -> None:
    answer = post(of(3), path=path)

    assert answer.status_code == 202
    assert list(answer.json()) == ["results"]
    results = answer.json()["results"]
    assert [run["labels"] for run in results] == [{"n": "0"}, {"n": "1"}, {"n": "2"}]
    for run in results:
        assert operator.get(f"/api/v1/runs/{run['id']}").json() == run


def test_a_batch_costs_few_queries(post: Any, counted: Any) -> None:
    post(of(1))

    with counted() as statements:
        assert post(of(50)).status_code == 202

    assert 0 < len(statements) <= 8, statements


def test_a_viewer_may_not_and_nobody_without_a_session(post: Any, viewer: Any, nobody: Any, problem: Any) -> None:
    problem(post(of(1), to=viewer), 403, "forbidden")
    problem(post(of(1), to=nobody), 401, "not_authenticated")
    assert not Run.objects.exists()


def test_an_author_may(post: Any, member: Any) -> None:
    assert post(of(1), to=member(Role.AUTHOR)).status_code == 202


def test_the_same_key_and_body_give_the_same_answer(post: Any, problem: Any) -> None:
    first, second = (post(of(2), key="order-1") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.json() == second.json()
    problem(post(of(3), key="order-1"), 422, "idempotency_key_reused")
    problem(post(of(1)["runs"][0], key="order-1", path="/api/v1/runs"), 422, "idempotency_key_reused")
    assert Run.objects.count() == 2


def test_faults_of_shape_are_told_with_their_places(post: Any, problem: Any) -> None:
    runs = [*of(1)["runs"], {"goal": 7}, "run", {"goal": "g", "colour": "red"}, {"goal": "g", "labels": {"a": 1}}]

    body = problem(post({"runs": runs}), 422, "invalid_input")

    assert {(fault["path"], fault["code"]) for fault in body["errors"]} == {
        ("runs[1].goal", "type"),
        ("runs[2]", "type"),
        ("runs[3].colour", "unknown_field"),
        ("runs[4].labels.a", "type"),
    }
    assert not Run.objects.exists()


def test_faults_of_meaning_are_told_with_their_places(post: Any, problem: Any) -> None:
    plan = {"steps": [{"key": "a", "tool": "test.ecko"}]}
    runs = [*of(1)["runs"], {"plan": plan}, {}, {"goal": "g", "agent": "elsewhere"}]

    body = problem(post({"runs": runs}), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [
        ("runs[1].steps[0].tool", "unknown_tool"),
        ("runs[2].goal", "missing"),
        ("runs[3].agent", "not_found"),
    ]
    assert not Run.objects.exists()


@pytest.mark.parametrize("entry", ["run", None, 7, [], True, {"goal": 7}, {"colour": "red"}], ids=str)
@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("key", ["", "batch-1"])
def test_one_entry_that_is_no_submission_hides_no_fault_of_the_others(
    post: Any, problem: Any, entry: Any, at: int, key: str
) -> None:
    runs: list[Any] = [
        {"plan": {"steps": [{"key": "a", "tool": "test.ecko"}]}},
        *of(1)["runs"],
        {},
        {"goal": "g", "agent": "elsewhere"},
    ]
    runs.insert(at, entry)

    body = problem(post({"runs": runs}, key=key), 422, "invalid_input")

    faults = [(int(fault["path"][5]), fault["code"]) for fault in body["errors"]]
    assert faults == sorted(faults, key=lambda one: one[0])
    others = [n for n in range(5) if n != at]
    expected = {others[0]: "unknown_tool", others[2]: "missing", others[3]: "not_found"}
    assert {n: code for n, code in faults if n != at} == expected
    assert at in dict(faults)
    assert not Run.objects.exists()


def test_of_very_many_faults_a_hundred_are_told(post: Any, problem: Any) -> None:
    body = problem(post({"runs": [None] * 1000}), 422, "invalid_input")

    assert [fault["path"] for fault in body["errors"]] == [f"runs[{n}]" for n in range(100)]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "runs"),
        ({"runs": []}, "runs"),
        ({"runs": {}}, "runs"),
        ({"runs": None}, "runs"),
        ({"runs": [{}] * 1001}, "runs"),
        ([], ""),
        ({"runs": [{"goal": "g"}], "atomic": True}, "atomic"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_batch_is_refused(post: Any, problem: Any, body: Any, path: str) -> None:
    refused = problem(post(body), 422, "invalid_input")

    assert [fault["path"] for fault in refused["errors"]] == [path]
    assert not Run.objects.exists()


def test_an_agent_of_another_workspace_is_not_there(post: Any, stranger: Any) -> None:
    assert post({"runs": [{"goal": "g", "agent": "elsewhere"}]}, to=stranger).status_code == 422
    assert not Run.objects.exists()


def test_there_is_nothing_to_read_at_the_address(operator: Any, problem: Any) -> None:
    problem(operator.get(BATCH), 405, "method_not_allowed")
