"""Idempotency-Key at every POST that makes something: once, whatever is repeated, and one key for one request."""

from typing import Any

import pytest

from agentsys.accounts.models import RequestKey
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs.models import Run, RunMessage
from tests.support.rows import photograph
from tests.support.threads import in_parallel

API = "/api/v1"
STEPS = [{"key": "a", "tool": "test.echo"}]

pytestmark = [pytest.mark.usefixtures("agent"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def run(submit: Any) -> Run:
    return submit(STEPS, goal="Echo")


@pytest.fixture
def post(author: Any, run: Run) -> Any:
    def send(path: str, body: Any, key: str | None = "k", client: Any = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return (client or author).post(f"{API}/{path.format(run=run.pk)}", body, format="json", headers=headers)

    return send


MAKERS = {
    "runs/{run}/messages": ({"text": "Hurry."}, {"text": "Do not."}, RunMessage),
    "agents": ({"slug": "x", "name": "X"}, {"slug": "x", "name": "Y"}, Agent),
    "agents/assistant/versions": ({"instructions": "a"}, {"instructions": "b"}, AgentVersion),
}
every_maker = pytest.mark.parametrize(
    ("path", "body", "other", "model"), [(path, *rest) for path, rest in MAKERS.items()], ids=list(MAKERS)
)


def everything() -> Any:
    rows = {kind: list(kind.objects.order_by("pk").values()) for kind in (Agent, AgentVersion, RequestKey)}
    return rows, photograph()


@every_maker
def test_the_same_key_and_body_make_it_once_and_give_the_same_answer(
    post: Any, path: str, body: Any, other: Any, model: Any
) -> None:
    before = model.objects.count()
    first = post(path, body)
    made = everything()

    again = post(path + "/", body)

    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
    assert everything() == made
    assert model.objects.count() == before + 1


@every_maker
def test_another_body_under_the_key_is_refused(
    post: Any, problem: Any, path: str, body: Any, other: Any, model: Any
) -> None:
    post(path, body)
    before = everything()

    problem(post(path, other), 422, "idempotency_key_reused")

    assert everything() == before


@every_maker
def test_a_request_that_is_refused_leaves_its_key_free(
    post: Any, path: str, body: Any, other: Any, model: Any, run: Run
) -> None:
    wrong = {"text": "\x00"} if model is RunMessage else {**body, "tools": ["no.such"]}
    assert post(path, wrong).status_code in (400, 422)
    assert not RequestKey.objects.exists()

    assert post(path, body).status_code == 201


@every_maker
def test_many_at_once_make_it_once(post: Any, path: str, body: Any, other: Any, model: Any) -> None:
    before = model.objects.count()

    answers = in_parallel(*[lambda: post(path, body) for _ in range(5)])

    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({str(answer.json()) for answer in answers}) == 1
    assert sorted("Idempotent-Replayed" in answer for answer in answers) == [False, True, True, True, True]
    assert model.objects.count() == before + 1


@every_maker
@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a\tb"])
def test_what_is_no_key_is_refused(
    post: Any, problem: Any, path: str, body: Any, other: Any, model: Any, key: str
) -> None:
    before = everything()

    problem(post(path, body, key=key), 422, "invalid_input")

    assert everything() == before


def test_without_a_key_each_request_makes_its_own(post: Any, run: Run) -> None:
    for _ in range(2):
        assert post("runs/{run}/messages", {"text": "Hurry."}, key=None).status_code == 201

    assert RunMessage.objects.count() == 2
    assert not RequestKey.objects.exists()


def test_a_key_is_one_requests_whatever_it_makes(post: Any, problem: Any, submit: Any) -> None:
    makers = {
        "runs": {"plan": {"steps": STEPS}},
        "runs/batch": {"runs": [{"plan": {"steps": STEPS}}]},
        "runs/{run}/fork": {"from_step": "a"},
        **{path: body for path, (body, _, _) in MAKERS.items()},
    }
    for path, body in makers.items():
        assert post(path, body, key=path).status_code in (201, 202), path
    before = everything()

    for key in makers:
        for path, body in makers.items():
            if path != key:
                problem(post(path, body, key=key), 422, "idempotency_key_reused")

    assert everything() == before


def test_the_same_message_to_another_run_is_another_request(post: Any, problem: Any, submit: Any) -> None:
    other = submit(STEPS)
    post("runs/{run}/messages", {"text": "Hurry."})

    problem(post(f"runs/{other.pk}/messages", {"text": "Hurry."}), 422, "idempotency_key_reused")
    problem(post("runs/{run}/messages", {"text": "Hurry.", "replan": True}), 422, "idempotency_key_reused")
    assert RunMessage.objects.count() == 1


def test_what_was_sent_is_replayed_when_the_run_has_ended_and_nothing_new_is_taken(
    post: Any, problem: Any, run: Run, worker: Any
) -> None:
    post("runs/{run}/messages", {"text": "Hurry."})
    worker.finish(run)

    assert post("runs/{run}/messages", {"text": "Hurry."})["Idempotent-Replayed"] == "true"
    problem(post("runs/{run}/messages", {"text": "Hurry."}, key="l"), 409, "invalid_transition")


def test_a_replanning_message_is_sent_once(post: Any, run: Run) -> None:
    answers = [post("runs/{run}/messages", {"text": "Otherwise.", "replan": True}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert run.steps.filter(kind="plan").count() == 1


def test_another_workspaces_key_is_another_key(post: Any, stranger: Any, run: Run, problem: Any) -> None:
    post("agents", {"slug": "x", "name": "X"})

    theirs = post("agents", {"slug": "x", "name": "Other"}, client=stranger)

    assert (theirs.status_code, "Idempotent-Replayed" in theirs) == (201, False)
    problem(post("runs/{run}/messages", {"text": "t"}, client=stranger), 404, "not_found")


def test_who_may_not_make_it_gets_no_replay(post: Any, viewer: Any, problem: Any) -> None:
    for path, (body, _, _) in MAKERS.items():
        post(path, body, key=path)
        problem(post(path, body, key=path, client=viewer), 403, "forbidden")


def test_what_is_gone_is_not_made_again(post: Any, author: Any, problem: Any) -> None:
    body = {"slug": "x", "name": "X"}
    post("agents", body)
    author.delete(f"{API}/agents/x")

    assert "gone" in problem(post("agents", body), 404, "not_found")["detail"]
    assert not Agent.objects.filter(slug="x").exists()
