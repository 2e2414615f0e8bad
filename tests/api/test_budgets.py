"""Budgets by REST: read by all, set by admins; a run's limits raised by who may resume it."""

from typing import Any

import pytest

from agentsys.accounts.models import Role
from agentsys.core.ids import uuid7
from agentsys.runs.models import Budget
from agentsys.runs.store import sweeps
from tests.support.priced import MODEL
from tests.support.rows import photograph, sql

BUDGETS, RUNS = "/api/v1/budgets", "/api/v1/runs"
SAY = {"key": "say", "kind": "answer", "objective": "Say something."}
NONE = {"scope": "workspace", "agent": None, "tokens": None, "cost_usd": None}

pytestmark = pytest.mark.usefixtures("agent", "priced")


@pytest.fixture
def admin(member: Any) -> Any:
    return member(Role.ADMIN)


def patch(client: Any, path: str, **limits: Any) -> Any:
    return client.patch(f"{BUDGETS}/{path}", limits, format="json")


def test_a_workspaces_budget_is_set_shown_and_taken_away(admin: Any, viewer: Any) -> None:
    assert viewer.get(f"{BUDGETS}/workspace").json() == NONE

    made = patch(admin, "workspace", tokens=5000, cost_usd=2.5)

    line = {"spent": 0, "reserved": 0, "over": 0}
    assert (made.status_code, made.json()) == (
        200, NONE | {"tokens": {"limit": 5000, **line}, "cost_usd": {"limit": 2.5, **line}},
    )  # fmt: skip
    assert viewer.get(BUDGETS).json() == {"next": None, "previous": None, "results": [made.json()]}
    assert patch(admin, "workspace/", tokens=None, cost_usd=None).json() == NONE


def test_an_agents_budget_is_its_own(admin: Any, viewer: Any) -> None:
    patch(admin, "agents/assistant", tokens=7)

    found = viewer.get(BUDGETS).json()["results"]

    assert [(one["scope"], one["agent"], one["tokens"] and one["tokens"]["limit"]) for one in found] == [
        ("workspace", None, None), ("agent", "assistant", 7),
    ]  # fmt: skip
    assert viewer.get(f"{BUDGETS}/agents/assistant").json() == found[1]


@pytest.mark.parametrize("path", ["workspace", "agents/assistant"])
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        *(({"tokens": value}, ("limits.tokens", "type")) for value in (True, "5", 1.5, [5], {})),
        *(({"tokens": value}, ("limits.tokens", "bad_value")) for value in (0, -1, 10**30)),
        *(({"cost_usd": value}, ("limits.cost_usd", "type")) for value in (False, "5", [])),
        *(({"cost_usd": value}, ("limits.cost_usd", "bad_value")) for value in (0, -0.1, 1e300, 1e-12, 9.99e-7)),
        ({"steps": 5}, ("steps", "unknown_field")),
    ],
)
def test_what_is_no_limit_is_refused(admin: Any, problem: Any, path: str, body: Any, fault: Any) -> None:
    refused = problem(patch(admin, path, **body), 422, "invalid_input")

    assert [(error["path"], error["code"]) for error in refused["errors"]] == [fault]
    assert not Budget.objects.exists()


@pytest.mark.parametrize("raw", [b'{"tokens": NaN}', b'{"cost_usd": 1e999}', b"[1]", b"5", b'{"tokens": 1', b"\xff"])
def test_what_is_no_body_is_refused(admin: Any, raw: bytes) -> None:
    answer = admin.patch(f"{BUDGETS}/workspace", raw, content_type="application/json")

    assert answer.status_code in (400, 422)
    assert not Budget.objects.exists()


@pytest.mark.parametrize("path", ["workspace", "agents/assistant"])
def test_only_admins_set_limits(viewer: Any, operator: Any, author: Any, nobody: Any, problem: Any, path: str) -> None:
    for client in (viewer, operator, author):
        problem(patch(client, path, tokens=5), 403, "forbidden")
    problem(patch(nobody, path, tokens=5), 401, "not_authenticated")

    assert not Budget.objects.exists()


def test_another_workspaces_budgets_do_not_exist(admin: Any, stranger: Any, submit: Any, problem: Any) -> None:
    patch(admin, "workspace", tokens=5)
    run = submit([SAY], model=MODEL, limits={"tokens": 5})

    assert stranger.get(f"{BUDGETS}/workspace").json() == NONE
    problem(stranger.get(f"{RUNS}/{run.pk}/budget"), 404, "not_found")
    problem(stranger.post(f"{RUNS}/{run.pk}/resume", {"limits": {"tokens": 9}}, format="json"), 404, "not_found")
    problem(admin.get(f"{BUDGETS}/agents/no-such"), 404, "not_found")
    problem(patch(admin, "agents/no-such", tokens=5), 404, "not_found")
    problem(admin.get(f"{RUNS}/{uuid7()}/budget"), 404, "not_found")


def test_a_run_shows_every_budget_that_it_counts_on(admin: Any, submit: Any, worker: Any) -> None:
    patch(admin, "workspace", cost_usd=2)
    patch(admin, "agents/assistant", tokens=90_000)
    limits = {"steps": 3, "tokens": 50_000, "cost_usd": 1, "time_s": 60}
    run = worker.finish(submit([SAY], model=MODEL, limits=limits))

    found = admin.get(f"{RUNS}/{run.pk}/budget").json()["budgets"]

    assert [(b["scope"], b["kind"], b["limit"]) for b in found] == [
        ("run", "time_s", 60), ("run", "cost_usd", 1), ("run", "steps", 3), ("run", "tokens", 50_000),
        ("agent", "tokens", 90_000), ("workspace", "cost_usd", 2),
    ]  # fmt: skip
    spent = {(b["scope"], b["kind"]): b["spent"] for b in found}
    assert spent.pop(("run", "time_s")) < 60
    assert spent == {
        ("run", "cost_usd"): 0.0002, ("run", "steps"): 1, ("run", "tokens"): 150, ("agent", "tokens"): 150,
        ("workspace", "cost_usd"): 0.0002,
    }  # fmt: skip
    assert {b["reserved"] for b in found} == {0}


def test_an_operator_raises_a_runs_limit_and_it_goes_on(operator: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = submit([SAY], model=MODEL, limits={"tokens": 10})
    worker.work()
    waiting = operator.get(f"{RUNS}/{run.pk}").json()
    assert (waiting["status"], waiting["reason"], waiting["error"]) == ("waiting", "budget", None)
    step = operator.get(f"{RUNS}/{run.pk}/steps/say").json()
    assert (step["status"], step["reason"], step["error"]["code"]) == ("waiting", "budget", "budget_exhausted")

    problem(operator.post(f"{RUNS}/{run.pk}/resume"), 409, "invalid_transition")
    problem(operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"steps": 9}}, format="json"), 422, "invalid_input")
    raised = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"tokens": 5000}}, format="json")

    assert (raised.status_code, raised.json()["status"]) == (200, "running")
    assert run.events.get(type="run.limits_changed").data == {"limits": {"tokens": 5000}, "by": "our-operator"}
    assert worker.finish(run).status == "succeeded"
    ended = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"tokens": 9000}}, format="json")
    problem(ended, 409, "invalid_transition")


def test_a_viewer_raises_nothing(viewer: Any, submit: Any, worker: Any, problem: Any) -> None:
    run = submit([SAY], model=MODEL, limits={"tokens": 10})
    worker.work()
    before = photograph()

    problem(viewer.post(f"{RUNS}/{run.pk}/resume", {"limits": {"tokens": 5000}}, format="json"), 403, "forbidden")

    assert photograph() == before


@pytest.mark.parametrize("limits", [5, "x", None, [], {"tokens": "5"}, {"wings": 1}, {"tokens": -1}])
def test_a_raise_that_is_none_is_refused(operator: Any, submit: Any, worker: Any, limits: Any) -> None:
    run = submit([SAY], model=MODEL, limits={"tokens": 10})
    worker.work()
    before = photograph()

    answer = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": limits}, format="json")

    assert answer.status_code in (409, 422)
    assert photograph() == before


def test_a_raised_workspace_budget_lets_its_runs_go_on(admin: Any, submit: Any, worker: Any, problem: Any) -> None:
    patch(admin, "workspace", tokens=10)
    run = submit([SAY], model=MODEL)
    worker.work()

    patch(admin, "workspace", tokens=50_000)
    sweeps.mind_budgets()

    assert worker.finish(run).status == "succeeded"
    problem(patch(admin, "workspace", tokens=149), 422, "invalid_input")


@pytest.mark.parametrize("limits", [{"tokens": 5000}, {"time_s": 60, "steps": 9, "cost_usd": 0.5, "tokens": 5000}])
def test_a_raise_that_changes_nothing_writes_nothing(operator: Any, submit: Any, limits: Any) -> None:
    run = submit(
        [SAY], model=MODEL, limits={name: value / 2 if name == "cost_usd" else 5 for name, value in limits.items()}
    )
    raised = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": limits}, format="json")
    before = photograph()

    again = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": limits}, format="json")

    assert (raised.status_code, again.status_code, again.json()) == (200, 200, raised.json())
    assert photograph() == before
    assert run.events.filter(type="run.limits_changed").count() == 1


def test_only_what_a_raise_changes_is_told(operator: Any, submit: Any) -> None:
    run = submit([SAY], model=MODEL, limits={"tokens": 10, "steps": 3})

    operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"tokens": 20, "steps": 3}}, format="json")

    assert run.events.get(type="run.limits_changed").data["limits"] == {"tokens": 20}


def test_a_run_out_of_time_is_told_that_the_same_limit_is_none(
    operator: Any, submit: Any, worker: Any, problem: Any
) -> None:
    run = submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 60}}], limits={"time_s": 5})
    worker.work()
    sql("UPDATE runs_run SET started_at = started_at - interval '1 hour', time_up_at = time_up_at - interval '1 hour'")
    sweeps.mind_budgets()
    before = photograph()

    same = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"time_s": 5}}, format="json")

    assert problem(same, 422, "invalid_input")["errors"][0]["code"] == "too_low"
    assert photograph() == before


@pytest.mark.parametrize(
    ("limits", "unit"), [({"cost_usd": 0.0001}, "usd"), ({"tokens": 10}, "tokens"), ({"steps": 1}, "steps")]
)
def test_what_says_that_a_budget_is_used_up_counts_in_one_unit_and_names_it(
    operator: Any, submit: Any, worker: Any, limits: Any, unit: str, settings: Any
) -> None:
    if unit == "steps":
        run = submit(goal="Count the words in 'a b', then read notes.txt", limits=limits)
    else:
        run = submit([SAY], model=MODEL, limits=limits)
    worker.work()

    waiting = run.events.filter(type="step.waiting").last()
    step = operator.get(f"{RUNS}/{run.pk}/steps/{waiting.step}").json()
    (told,) = waiting.data["error"]["data"]["budgets"]
    assert step["error"]["data"]["budgets"] == [told]
    assert operator.get(f"{RUNS}/{run.pk}/blockers").json()["blockers"][0]["data"]["budgets"] == [told]
    ((name, limit),) = limits.items()
    assert (told["kind"], told["unit"], told["limit"], told["spent"], told["reserved"]) == (name, unit, limit, 0, 0)
    assert told["limit"] < told["needs"] <= told["wants"] < 100_000
    if unit == "usd":
        assert told["wants"] < 1


@pytest.mark.parametrize("by", ["resume", "sweep"])
def test_dollars_that_are_just_enough_let_a_run_go_on(operator: Any, submit: Any, worker: Any, by: str) -> None:
    run = submit([SAY], model=MODEL, limits={"cost_usd": 0.0001})
    worker.work()
    needs = run.steps.get(key="say").error["data"]["budgets"][0]["needs"]

    too_low = round(needs - 0.000001, 6)
    short = operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"cost_usd": too_low}}, format="json")
    assert short.json()["status"] == "waiting"
    if by == "resume":
        operator.post(f"{RUNS}/{run.pk}/resume", {"limits": {"cost_usd": needs}}, format="json")
    else:
        sql("UPDATE runs_budget SET lim = lim + 1")
        sql("UPDATE runs_run SET limits = jsonb_set(limits, '{cost_usd}', %s::text::jsonb)", str(needs))
        sweeps.mind_budgets()

    assert worker.finish(run).status == "succeeded"
