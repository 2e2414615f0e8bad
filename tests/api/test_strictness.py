"""A body's truth values and numbers are what JSON calls them; a query string that nobody reads is refused."""

from typing import Any

import pytest

from agentsys.accounts.models import Role
from agentsys.agents.models import Agent, AgentVersion
from tests.support.rows import photograph

API = "/api/v1"
STEPS = [{"key": "a", "tool": "test.echo"}]
NO_BOOLEAN: list[Any] = ["yes", "true", "True", "on", "", 1, 0, 1.0, None, [], {}]
NO_INTEGER: list[Any] = ["1", " 1", "1.0", "", True, False, 1.5, 1.0, [], {}]
NO_NUMBER: list[Any] = ["1", "1e3", "", True, False, [], {}]


@pytest.fixture
def run(submit: Any) -> Any:
    return submit(STEPS)


@pytest.mark.parametrize("value", NO_BOOLEAN, ids=repr)
def test_a_truth_value_is_true_or_false(operator: Any, run: Any, problem: Any, value: Any) -> None:
    before = photograph()

    answer = operator.post(f"{API}/runs/{run.pk}/messages", {"text": "t", "replan": value}, format="json")

    faults = problem(answer, 422, "invalid_input")["errors"]
    assert [(fault["path"], fault["code"]) for fault in faults] == [("replan", "type")]
    assert photograph() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("priority", value) for value in (*NO_INTEGER, None)),
        *(("deadline_s", value) for value in NO_NUMBER),
        *(("start_at", value) for value in ("tomorrow", "", 5, True, [], {})),
        *(("goal", value) for value in (5, True, None, [], {})),
        *(("model", value) for value in (5, True, None)),
    ],
    ids=repr,
)
def test_a_submission_takes_each_field_by_its_type(
    operator: Any, agent: Any, problem: Any, field: str, value: Any
) -> None:
    before = photograph()
    for path, body, place in (
        ("runs", {"plan": {"steps": STEPS}, field: value}, field),
        ("runs/batch", {"runs": [{"plan": {"steps": STEPS}, field: value}]}, f"runs[0].{field}"),
    ):
        faults = problem(operator.post(f"{API}/{path}", body, format="json"), 422, "invalid_input")["errors"]
        assert [(fault["path"], fault["code"]) for fault in faults] == [(place, "type")]
    assert photograph() == before


@pytest.mark.parametrize("number", [10**400, -(10**400)], ids=["huge", "very small"])
def test_a_number_beyond_all_bounds_is_refused(operator: Any, agent: Any, problem: Any, number: int) -> None:
    for field in ("priority", "deadline_s"):
        problem(operator.post(f"{API}/runs", {"goal": "g", field: number}, format="json"), 422, "invalid_input")
    assert not photograph()["runs_run"]


@pytest.mark.parametrize("value", [*NO_INTEGER, 10**400, -1], ids=lambda value: repr(value)[:20])
def test_an_agents_version_is_named_by_its_number(author: Any, agent: Any, problem: Any, value: Any) -> None:
    answer = author.patch(f"{API}/agents/{agent.slug}", {"current_version": value}, format="json")

    assert answer.status_code in (404, 422)
    assert Agent.objects.get().current_version_id == AgentVersion.objects.get().pk


@pytest.mark.parametrize("slug", [5, True, None, [], "", "a b", "ä"], ids=repr)
def test_a_slug_is_a_text(author: Any, agent: Any, problem: Any, slug: Any) -> None:
    problem(author.post(f"{API}/agents", {"slug": slug, "name": "n"}, format="json"), 422, "invalid_input")

    assert Agent.objects.count() == 1


@pytest.mark.parametrize(
    "path",
    [
        "me", "runs/{run}", "runs/{run}/budget", "runs/{run}/blockers", "runs/{run}/steps/a", "agents/assistant",
        "agents/assistant/versions/1", "budgets/workspace", "budgets/agents/assistant", "tools/test.echo",
    ],
)  # fmt: skip
def test_a_detail_refuses_what_it_does_not_read_as_a_list_does(viewer: Any, run: Any, problem: Any, path: str) -> None:
    address = f"{API}/{path.format(run=run.pk)}"
    assert viewer.get(address).status_code == 200

    for query in ({"limit": "5"}, {"x\x00": ""}):
        (fault,) = problem(viewer.get(address, query), 422, "invalid_input")["errors"]
        assert fault["code"] == "unknown_parameter"
    assert viewer.get(address, {"format": "json"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs?goal=g", {"goal": "g"}), ("runs/batch?x=1", {"runs": [{"goal": "g"}]}), ("runs/{run}/pause?by=me", None),
        ("runs/{run}/cancel?force=1", None), ("runs/{run}/messages?replan=true", {"text": "t"}),
        ("runs/{run}/fork?from_step=a", {"from_step": "a"}), ("agents?slug=x", {"slug": "x", "name": "X"}),
    ],
)  # fmt: skip
def test_what_belongs_into_a_body_is_not_lost_in_a_query_string(
    author: Any, run: Any, problem: Any, path: str, body: Any
) -> None:
    before = photograph()

    (fault,) = problem(author.post(f"{API}/{path.format(run=run.pk)}", body, format="json"), 422, "invalid_input")[
        "errors"
    ]

    assert fault["code"] == "unknown_parameter"
    assert photograph() == before
    assert Agent.objects.count() == 1


def test_a_log_in_takes_no_password_from_a_query_string(nobody: Any, make_user: Any, problem: Any) -> None:
    make_user("mary")
    body = {"username": "mary", "password": "correct horse battery"}

    problem(nobody.post(f"{API}/auth/token?workspace=home", body, format="json"), 422, "invalid_input")
    assert nobody.post(f"{API}/auth/token", body, format="json").status_code == 200


def test_other_refusals_come_first(
    viewer: Any, nobody: Any, stranger: Any, run: Any, problem: Any, member: Any
) -> None:
    problem(nobody.get(f"{API}/runs/{run.pk}?x=1"), 401, "not_authenticated")
    problem(viewer.post(f"{API}/runs/{run.pk}/cancel?x=1"), 403, "forbidden")
    problem(viewer.get(f"{API}/runs/{run.pk}/cancel?x=1"), 405, "method_not_allowed")
    problem(stranger.get(f"{API}/runs/{run.pk}"), 404, "not_found")
    assert member(Role.ADMIN).get(f"{API}/runs/{run.pk}").status_code == 200
