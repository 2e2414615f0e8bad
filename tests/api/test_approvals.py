"""Approvals by REST: found by the right people, decided by one of them."""

from typing import Any

import pytest

from agentsys.accounts.models import Role
from agentsys.core.ids import uuid7
from agentsys.runs import services
from agentsys.runs.models import Approval, Run
from tests.support import tools
from tests.support.approvals import ask, open_of, wire, wired
from tests.support.rows import photograph
from tests.support.threads import in_parallel

APPROVALS = "/api/v1/approvals"
FIELDS = {
    "id", "run", "step", "kind", "tool", "arguments", "digest", "tainted", "decision", "decided_by", "answer",
    "replaces", "created_at", "expires_at", "decided_at",
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "approve": {}, "edit": {"arguments": {"to": "eve"}}, "deny": {"reason": "no"}, "answer": {"answer": 1},
}  # fmt: skip


@pytest.fixture
def asked(submit: Any, worker: Any) -> Run:
    """A run that waits for one approval and one answer."""
    tools.calls.clear()
    run: Run = submit([wire(), ask(schema={"type": "integer"})])
    worker.work()
    return run


def path_of(one: Approval, word: str = "") -> str:
    return f"{APPROVALS}/{one.pk}/{word}".rstrip("/")


def fitting(run: Run, word: str) -> Approval:
    return open_of(run, "who" if word == "answer" else "pay")


def test_an_approval_shows_what_is_decided_on(viewer: Any, asked: Run) -> None:
    one = open_of(asked, "pay")

    body = viewer.get(path_of(one)).json()

    assert set(body) == FIELDS
    assert (body["run"], body["step"], body["kind"], body["tool"]) == (str(asked.pk), "pay", "approval", "test.wire")
    assert (body["arguments"], body["digest"], body["decision"]) == ({"to": "bob"}, one.digest, None)
    question = viewer.get(path_of(open_of(asked, "who"))).json()
    assert (question["kind"], question["tool"], question["arguments"]["question"]) == ("input", "", "Who?")


def test_an_approval_says_which_arguments_come_from_a_stranger(viewer: Any, submit: Any, worker: Any) -> None:
    page = {"key": "page", "tool": "test.page", "arguments": {"text": "hello"}}
    run = submit([page, {"key": "send", "tool": "test.send", "arguments": {"to": "ada", "text": "${page.text}"}}])
    worker.work()
    one = open_of(run, "send")
    assert viewer.get(path_of(one)).json()["tainted"] == {"text": ["web"]}
    assert viewer.get(APPROVALS, {"run": run.pk}).json()["results"][0]["tainted"] == {"text": ["web"]}


def test_they_are_listed_by_run_and_state(viewer: Any, asked: Run, submit: Any, worker: Any) -> None:
    other = submit([wire()])
    worker.work()
    services.cancel(other)

    def listed(**query: Any) -> list[str]:
        return [row["run"] for row in viewer.get(APPROVALS, query).json()["results"]]

    both, gone = [str(asked.pk)] * 2, [str(other.pk)]
    assert (listed(), listed(run=asked.pk), listed(run=other.pk)) == (gone + both, both, gone)
    assert (listed(state="open"), listed(state="decided"), listed(run=uuid7())) == (both, gone, [])
    row = viewer.get(APPROVALS, {"state": "open"}).json()["results"][-1]
    assert row == viewer.get(f"{APPROVALS}/{row['id']}").json()


def test_a_list_leaves_out_what_is_large_and_goes_on_by_its_cursor(viewer: Any, submit: Any, worker: Any) -> None:
    for size in (10, 100_000, 10):
        submit([wire(arguments={"note": [str(n) for n in range(size)]})])
    worker.work()

    first = viewer.get(APPROVALS, {"limit": 2}).json()
    second = viewer.get(first["next"]).json()

    rows = first["results"] + second["results"]
    assert [row["arguments"] is None for row in rows] == [False, True, False]
    assert len(viewer.get(f"{APPROVALS}/{rows[1]['id']}").json()["arguments"]["note"]) == 100_000


def test_a_list_costs_the_same_for_one_and_for_many(viewer: Any, submit: Any, worker: Any, counted: Any) -> None:
    for count in (1, 9):
        for _ in range(count):
            submit([wire()])
        worker.work()

        with counted() as statements:
            viewer.get(APPROVALS)
        assert len(statements) == 2, statements  # who asks, and the page


@pytest.mark.parametrize(
    "query", [{"run": "x"}, {"state": "denied"}, {"cursor": "x"}, {"limit": 0}, {"run": "\0"}], ids=str
)
def test_a_question_that_makes_no_sense_is_refused(viewer: Any, problem: Any, query: Any) -> None:
    problem(viewer.get(APPROVALS, query), 422, "invalid_input")


@pytest.mark.parametrize("word", BODIES)
def test_each_decision_is_taken_and_told(operator: Any, asked: Run, word: str) -> None:
    one = fitting(asked, word)

    response = operator.post(path_of(one, word), {**BODIES[word], "digest": one.digest}, format="json")

    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["decided_by"], body["decided_at"] is not None) == ("our-operator", True)
    if word == "edit":
        assert (body["decision"], body["arguments"], body["replaces"]) == ("approve", {"to": "eve"}, str(one.pk))
    else:
        assert (body["id"], body["decision"]) == (str(one.pk), word)
    one.refresh_from_db()
    assert one.decision == word


def test_the_whole_way(operator: Any, asked: Run, worker: Any) -> None:
    operator.post(path_of(open_of(asked, "pay"), "approve"))
    operator.post(path_of(open_of(asked, "who"), "answer"), {"answer": 7}, format="json")

    worker.finish(asked)

    assert (asked.status, asked.result["who"], len(wired())) == ("succeeded", 7, 1)


@pytest.mark.parametrize("word", BODIES)
def test_a_second_decision_is_a_conflict(operator: Any, problem: Any, asked: Run, word: str) -> None:
    one = fitting(asked, word)
    operator.post(path_of(one, word), BODIES[word], format="json")
    before = photograph()

    problem(operator.post(path_of(one, word), BODIES[word], format="json"), 409, "approval_decided")
    assert photograph() == before


@pytest.mark.parametrize("word", BODIES)
def test_a_decision_on_another_digest_is_a_conflict(operator: Any, problem: Any, asked: Run, word: str) -> None:
    before = photograph()

    body = {**BODIES[word], "digest": "0" * 64}
    problem(operator.post(path_of(fitting(asked, word), word), body, format="json"), 409, "approval_changed")
    assert photograph() == before


@pytest.mark.parametrize("word", BODIES)
def test_after_the_run_has_finished_it_is_a_conflict(operator: Any, problem: Any, asked: Run, word: str) -> None:
    one = fitting(asked, word)
    services.cancel(asked)
    before = photograph()

    body = problem(operator.post(path_of(one, word), BODIES[word], format="json"), 409, "invalid_transition")
    assert "run has finished" in body["detail"]
    assert photograph() == before


@pytest.mark.parametrize("word", ["approve", "edit", "answer"])
def test_a_decision_that_does_not_fit_the_question_is_a_conflict(
    operator: Any, problem: Any, asked: Run, word: str
) -> None:
    before = photograph()
    wrong = open_of(asked, "pay" if word == "answer" else "who")

    problem(operator.post(path_of(wrong, word), BODIES[word], format="json"), 409, "invalid_transition")
    assert photograph() == before


@pytest.mark.parametrize(
    ("word", "body", "path"),
    [
        ("approve", {"digest": 3}, "digest"),
        ("approve", {"digest": "x" * 65}, "digest"),
        ("approve", {"reason": "x"}, "reason"),
        ("approve", [], ""),
        ("edit", {}, "arguments"),
        ("edit", {"arguments": []}, "arguments"),
        ("edit", {"arguments": None}, "arguments"),
        ("edit", {"arguments": {}}, "arguments.to"),
        ("edit", {"arguments": {"to": "eve", "amount": "much"}}, "arguments.amount"),
        ("edit", {"arguments": {"to": "bob"}}, "arguments"),
        ("deny", {"reason": 3}, "reason"),
        ("deny", {"reason": "x" * 2001}, "reason"),
        ("answer", {}, "answer"),
        ("answer", {"answer": "x"}, "answer"),
        ("answer", {"answer": 1, "why": ""}, "why"),
    ],
    ids=str,
)
def test_a_bad_body_changes_nothing(operator: Any, problem: Any, asked: Run, word: str, body: Any, path: str) -> None:
    before = photograph()

    answer = problem(operator.post(path_of(fitting(asked, word), word), body, format="json"), 422, "invalid_input")

    assert path in [fault["path"] for fault in answer["errors"]]
    assert photograph() == before


@pytest.mark.parametrize(
    "raw",
    [b'{"arguments": {"to": "\\u0000"}}', b'{"arguments": {"to": "\\ud800"}}', b'{"arguments": {"to": 1e999}}', b"{"],
)
def test_a_body_that_no_database_can_hold_changes_nothing(operator: Any, asked: Run, raw: bytes) -> None:
    before = photograph()

    answer = operator.post(path_of(open_of(asked, "pay"), "edit"), raw, content_type="application/json")

    assert answer.status_code in (400, 422)
    assert photograph() == before


@pytest.mark.parametrize("word", BODIES)
def test_only_operators_and_above_decide(
    viewer: Any, nobody: Any, stranger: Any, problem: Any, asked: Run, word: str
) -> None:
    path = path_of(fitting(asked, word), word)
    before = photograph()

    problem(viewer.post(path, BODIES[word], format="json"), 403, "forbidden")
    problem(stranger.post(path, BODIES[word], format="json"), 404, "not_found")
    assert nobody.post(path, BODIES[word], format="json").status_code == 401

    assert photograph() == before


def test_another_workspaces_approvals_do_not_exist(stranger: Any, problem: Any, asked: Run) -> None:
    assert stranger.get(APPROVALS).json()["results"] == []
    assert stranger.get(APPROVALS, {"run": asked.pk}).json()["results"] == []
    problem(stranger.get(path_of(open_of(asked, "pay"))), 404, "not_found")


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUTHOR, Role.ADMIN])
def test_who_may_decide(member: Any, asked: Run, role: Role) -> None:
    assert member(role).post(path_of(open_of(asked, "pay"), "approve")).status_code == 200


def test_an_agents_terms_are_part_of_its_version(author: Any, problem: Any, agent: Any) -> None:
    versions = f"/api/v1/agents/{agent.slug}/versions"
    terms = {"tools": ["test.echo"], "expires_s": 60, "on_denied": "result"}

    assert author.post(versions, {"approvals": terms}, format="json").json()["approvals"] == terms
    body = problem(author.post(versions, {"approvals": {"tools": ["no.such"]}}, format="json"), 422, "invalid_input")
    assert body["errors"][0]["path"] == "approvals.tools[0]"
    problem(author.post(versions, {"approvals": "all"}, format="json"), 422, "invalid_input")


# --- Under a key ------------------------------------------------------------------------
@pytest.fixture
def decide(operator: Any) -> Any:
    def send(one: Approval, word: str, body: Any = None, *, key: str = "k", client: Any = None) -> Any:
        given = BODIES[word] if body is None else body
        headers = {"Idempotency-Key": key}
        return (client or operator).post(path_of(one, word), given, format="json", headers=headers)

    return send


@pytest.mark.parametrize("word", BODIES)
def test_a_decision_that_is_sent_again_with_its_key_is_answered_as_before(
    decide: Any, problem: Any, asked: Run, word: str
) -> None:
    one = fitting(asked, word)
    first = decide(one, word)
    before = photograph()

    again = decide(one, word)

    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
    assert (first.json()["id"] != str(one.pk)) == (word == "edit")
    problem(decide(one, word, key="other"), 409, "approval_decided")
    assert photograph() == before


def test_a_key_is_of_one_decision(decide: Any, problem: Any, asked: Run) -> None:
    call, question = open_of(asked, "pay"), open_of(asked, "who")
    decide(call, "edit")
    before = photograph()

    problem(decide(call, "edit", {"arguments": {"to": "dan"}}), 422, "idempotency_key_reused")
    problem(decide(call, "approve"), 422, "idempotency_key_reused")
    problem(decide(question, "answer"), 422, "idempotency_key_reused")
    assert photograph() == before


def test_a_decision_that_is_refused_leaves_its_key_free(decide: Any, problem: Any, asked: Run) -> None:
    question = open_of(asked, "who")
    problem(decide(question, "answer", {"answer": "x"}), 422, "invalid_input")

    assert decide(question, "answer").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("word", BODIES)
def test_the_same_request_many_times_at_once_decides_once_and_is_never_told_that_it_came_too_late(
    decide: Any, asked: Run, word: str
) -> None:
    one = fitting(asked, word)

    answers = in_parallel(*[lambda: decide(one, word) for _ in range(4)])

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert asked.events.filter(type="approval.decided", data__approval=str(one.pk)).count() == 1


def test_who_may_not_decide_gets_no_replay(decide: Any, viewer: Any, stranger: Any, problem: Any, asked: Run) -> None:
    one = open_of(asked, "pay")
    decide(one, "approve")

    problem(decide(one, "approve", client=viewer), 403, "forbidden")
    problem(decide(one, "approve", client=stranger), 404, "not_found")
