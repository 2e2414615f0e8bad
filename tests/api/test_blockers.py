"""GET runs/{id}/blockers: of each open step why it does not move, since when, and what would change it."""

from typing import Any

import pytest

from agentsys.infrastructure import registry
from agentsys.runs import control, services
from agentsys.runs.models import Run
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import claim, open_gate
from tests.support.approvals import ask, wire
from tests.support.rows import sql


@pytest.fixture(autouse=True)
def _workers(db: Any) -> None:
    for lane in ("model", "network", "compute", "system"):
        registry.hello(f"{lane}@here", lane=lane, host="here", pid=1, concurrency=1)


@pytest.fixture
def why(viewer: Any) -> Any:
    def asked(run: Any) -> list[dict[str, Any]]:
        answer = viewer.get(f"/api/v1/runs/{run.pk}/blockers")
        assert answer.status_code == 200
        found = answer.json()["blockers"]
        assert not found or answer.json()["summary"] == found[0]["message"]
        return found

    return asked


def echo(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "tool": "test.echo", "arguments": {"value": 1}, **fields}


def kinds(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["step"], one["kind"]) for one in found]


def test_a_run_that_moves_says_where_and_since_when_and_what_waits_for_it(submit: Any, why: Any) -> None:
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    claim("compute", owner="compute@here")

    running, waiting = why(run)

    assert (running["kind"], running["data"], running["since"] is not None) == (
        "running",
        {"worker": "compute@here"},
        True,
    )
    assert (waiting["kind"], waiting["data"]) == ("dependency", {"waits_for": ["a"]})
    assert waiting["message"] == "b waits for a."


def test_a_step_that_could_run_tells_its_place_in_the_lane(submit: Any, why: Any) -> None:
    submit([echo("first")])
    run = submit([echo("a")])
    (found,) = why(run)
    assert (found["kind"], found["data"]) == ("queue", {"lane": "compute", "ahead": 1})


def test_a_lane_that_no_worker_serves_is_named(submit: Any, why: Any) -> None:
    run = submit([echo("a")])
    sql("UPDATE infrastructure_worker SET seen_at = now() - interval '2 minutes' WHERE lane = 'compute'")
    (found,) = why(run)
    assert found["kind"] == "no_worker"
    assert found["unblock"] == "Start one: python -m workers compute"


def test_a_step_without_a_slot_tells_whose_slots_are_in_use(submit: Any, why: Any) -> None:
    first = submit([echo("a")])
    sql("UPDATE runs_laneslot SET lim = 1")
    run = submit([echo("a")])
    (found,) = why(run)
    assert (found["kind"], found["data"]) == ("slot", {"lane": "compute", "limit": 1, "used": 1})
    assert found["since"] is not None
    assert why(first)[0]["kind"] == "queue"


def test_a_slot_that_is_free_is_not_said_to_be_in_use(submit: Any, why: Any) -> None:
    submit([echo("a")])
    sql("UPDATE runs_laneslot SET lim = 1")
    run = submit([echo("a")])
    sql("UPDATE runs_laneslot SET lim = 2")
    (found,) = why(run)
    assert (found["kind"], found["data"]["used"], found["unblock"]) == ("slot", 1, "Only time.")
    assert "one is free" in found["message"]


def test_a_worker_that_is_silent_is_said_to_be(submit: Any, why: Any) -> None:
    run = submit([echo("a")])
    claim("compute", owner="compute@here")
    sql("UPDATE runs_step SET lease_expires_at = clock_timestamp() + interval '5 seconds'")
    (found,) = why(run)
    assert found["kind"] == "running"
    assert "compute@here, which has been silent since" in found["message"]
    assert "others take it over" in found["unblock"]


@pytest.fixture
def family(submit: Any, worker: Any, agent: Any) -> tuple[Run, Run]:
    """A parent that waits for its child, which waits for an hour."""
    plan = {"steps": [{"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}]}
    step = {"key": "d", "kind": "delegate", "arguments": {"agent": agent.slug, "plan": plan}}
    parent = submit([step], limits={"time_s": 1000})
    worker.work()
    return parent, Run.objects.get(parent_run=parent)


def test_a_child_that_is_paused_with_its_parent_points_to_it(family: Any, why: Any) -> None:
    parent, child = family
    control.pause(parent)
    paused = why(child)[0]
    assert (paused["kind"], paused["data"]["parent_run"]) == ("paused", str(parent.pk))
    assert paused["message"] == f"The run is paused because its parent run {parent.pk} is."
    assert paused["unblock"] == f"POST /api/v1/runs/{parent.pk}/resume"


def test_a_child_whose_parent_has_no_time_left_points_to_it(family: Any, why: Any) -> None:
    parent, child = family
    sql(
        "UPDATE runs_run SET started_at = started_at - interval '1 hour', time_up_at = time_up_at - interval '1 hour'"
        " WHERE id = %s",
        parent.pk,
    )
    for _ in range(2):
        sweeps.mind_budgets()
    assert why(parent)[0]["message"] == "The run has used up its time."
    held = why(child)[0]
    assert (held["kind"], held["data"].get("parent_run")) == ("budget", str(parent.pk))
    assert f"/runs/{parent.pk}/resume" in held["unblock"]


def test_a_paused_run_tells_by_whom(submit: Any, why: Any, make_user: Any) -> None:
    run = submit([echo("a")])
    control.pause(run, user=make_user("pat", "operator"))
    paused, held = why(run)
    assert (paused["kind"], paused["data"], paused["message"]) == ("paused", {"by": "pat"}, "The run is paused by pat.")
    assert paused["unblock"] == f"POST /api/v1/runs/{run.pk}/resume"
    assert held["message"] == "a starts when the run goes on."


def test_whoever_is_asked_is_told_where_to_answer(submit: Any, worker: Any, why: Any) -> None:
    run = submit([wire(), ask()])
    worker.drain("compute"), worker.drain("network"), worker.drain("system")
    found = why(run)
    assert set(kinds(found)) == {("pay", "approval"), ("who", "question")}
    for one in found:
        assert one["unblock"].startswith(f"POST /api/v1/approvals/{one['data']['approval']}/")


def test_a_call_that_nobody_saw_the_end_of(submit: Any, why: Any) -> None:
    run = submit([{"key": "pay", "tool": "test.charge"}])
    held = claim("compute", owner="w")
    assert open_gate(held)
    moves.give_back(held.id, held.run_id, held.claim_token, why="dead")
    (found,) = why(run)
    assert found["kind"] == "outcome_unknown"
    assert found["unblock"] == f"POST /api/v1/runs/{run.pk}/steps/pay/resolve"


def test_what_only_time_moves(submit: Any, worker: Any, why: Any) -> None:
    timer = submit([{"key": "nap", "kind": "wait", "arguments": {"seconds": 60}}])
    again = submit([{"key": "flaky", "tool": "test.flaky", "arguments": {"failures": 1}}])
    worker.drain("system"), worker.drain("compute")
    (nap,), (flaky,) = why(timer), why(again)
    assert (nap["kind"], nap["unblock"]) == ("timer", "Only time.")
    assert flaky["kind"] == "retry"
    assert flaky["data"]["attempt"] == 1
    assert flaky["data"]["until"]


def test_a_parent_points_to_its_child(submit: Any, worker: Any, why: Any, agent: Any) -> None:
    plan = {"steps": [echo("x")]}
    run = submit([{"key": "sub", "kind": "delegate", "arguments": {"agent": agent.slug, "plan": plan}}])
    worker.drain("system")
    (found,) = why(run)
    assert found["kind"] == "child"
    assert found["unblock"] == f"See GET /api/v1/runs/{found['data']['child_run_id']}/blockers"


def test_a_run_that_is_being_stopped_says_what_it_waits_for(submit: Any, why: Any) -> None:
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    claim("compute", owner="w")
    services.cancel(run)
    assert kinds(why(run)) == [("", "draining"), ("a", "running")]


def test_a_run_that_has_ended_waits_for_nothing(submit: Any, worker: Any, viewer: Any) -> None:
    run = worker.finish(submit([echo("a")]))
    answer = viewer.get(f"/api/v1/runs/{run.pk}/blockers").json()
    assert answer == {"summary": "The run has ended: succeeded.", "blockers": [], "left_out": 0}


def test_of_many_steps_some_are_told_and_the_rest_counted(
    submit: Any, viewer: Any, django_assert_max_num_queries: Any
) -> None:
    run = submit([echo(f"s{n}") for n in range(60)])
    with django_assert_max_num_queries(12):
        answer = viewer.get(f"/api/v1/runs/{run.pk}/blockers").json()
    assert (len(answer["blockers"]), answer["left_out"]) == (20, 40)


def test_a_stranger_and_nobody_learn_nothing(submit: Any, stranger: Any, nobody: Any) -> None:
    run = submit([echo("a")])
    path = f"/api/v1/runs/{run.pk}/blockers"
    assert stranger.get(path).status_code == 404
    assert nobody.get(path).status_code == 401
