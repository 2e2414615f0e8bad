"""Lanes by REST: read by all, changed by admins while they work; I6 holds after every test."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from agentsys.accounts.models import Role
from agentsys.runs import verify
from agentsys.runs.models import LaneSlot, Step
from agentsys.runs.store import slots, sweeps
from agentsys.runs.store.claims import Result, claim, claim_some
from agentsys.runs.store.complete import complete
from tests.support.threads import background, in_parallel, until, waiting_for_locks

LANES = "/api/v1/lanes"
DEFAULT = {"used": 0, "weight": 1, "custom": False}
NAMES = ["model", "network", "compute", "system"]

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture(autouse=True)
def _verified(transactional_db: None) -> Iterator[None]:
    yield
    assert_clean()


@pytest.fixture
def admin(member: Any) -> Any:
    return member(Role.ADMIN)


def assert_clean() -> None:
    assert [finding for finding in verify.check() if finding.violations] == []


def patch(client: Any, lane: str = "compute", **body: Any) -> Any:
    return client.patch(f"{LANES}/{lane}", body, format="json")


def echoes(n: int) -> list[dict[str, Any]]:
    return [{"key": f"s{i}", "tool": "test.echo"} for i in range(n)]


def compute(client: Any) -> dict[str, Any]:
    return next(one for one in client.get(LANES).json()["results"] if one["lane"] == "compute")


def states() -> dict[str, int]:
    return dict(Counter(Step.objects.values_list("status", flat=True)))


# --- Read and set ----------------------------------------------------------------------
def test_a_lane_that_was_never_used_shows_the_installations_limit(viewer: Any, settings: Any) -> None:
    settings.LANE_SLOTS = 7

    body = viewer.get(LANES).json()

    assert body == {
        "next": None, "previous": None, "results": [{"lane": name, "limit": 7, **DEFAULT} for name in NAMES],
    }  # fmt: skip
    assert not LaneSlot.objects.exists()


def test_what_is_left_out_stays_as_it_is(admin: Any, viewer: Any) -> None:
    assert patch(admin, limit=5).json() == {"lane": "compute", "limit": 5, "used": 0, "weight": 1, "custom": True}
    weighed = patch(admin, "compute/", weight=2.5)

    assert (weighed.status_code, weighed.json()["limit"], weighed.json()["weight"]) == (200, 5, 2.5)
    assert compute(viewer) == weighed.json()
    assert LaneSlot.objects.count() == 1


@pytest.mark.parametrize("body", [{"limit": 1, "weight": 0.01}, {"limit": 100_000, "weight": 100}])
def test_the_bounds_themselves_are_taken(admin: Any, body: Any) -> None:
    answer = patch(admin, **body)

    assert (answer.status_code, {name: answer.json()[name] for name in body}) == (200, body)


def test_who_has_changed_what_is_logged_once(admin: Any, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "agentsys.runs.lanes"):
        patch(admin, limit=5)
        patch(admin, limit=0)

    said = [record.getMessage() for record in caplog.records if record.name == "agentsys.runs.lanes"]
    assert len(said) == 1
    assert said[0].startswith("our-admin set lane compute of workspace ")
    assert said[0].endswith(": {'limit': 5}")


# --- Refused ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, ("limit", "missing")),
        *(({"limit": value}, ("limit", "type")) for value in (True, "5", 1.5, 5.0, [5], {})),
        *(({"limit": value}, ("limit", "bad_value")) for value in (0, -1, 100_001, 10**30, 10**400, -(10**400))),
        *(({"weight": value}, ("weight", "type")) for value in (False, "1", [], {})),
        *(({"weight": value}, ("weight", "bad_value")) for value in (0, -1, 0.009, 100.1, 1e300, 10**400, -(10**400))),
        ({"limit": None}, ("limit", "type")),
        ({"limit": 5, "used": 0}, ("used", "unknown_field")),
    ],
)
def test_what_is_no_limit_is_refused(admin: Any, problem: Any, body: Any, fault: Any) -> None:
    refused = problem(patch(admin, **body), 422, "invalid_input")

    assert [(error["path"], error["code"]) for error in refused["errors"]] == [fault]
    assert not LaneSlot.objects.exists()


def test_all_faults_are_told_together_and_half_of_them_changes_nothing(admin: Any, problem: Any) -> None:
    both = problem(patch(admin, limit=0, weight=0), 422, "invalid_input")
    problem(patch(admin, limit=5, weight=0), 422, "invalid_input")

    assert [error["path"] for error in both["errors"]] == ["limit", "weight"]
    assert not LaneSlot.objects.exists()


RAW = [b'{"limit": NaN}', b'{"weight": NaN}', b'{"weight": 1e999}', b"[1]", b"5", b"null", b"", b'{"limit": 1', b"\xff"]


@pytest.mark.parametrize("raw", RAW, ids=map(repr, RAW))
def test_what_is_no_body_is_refused(admin: Any, raw: bytes) -> None:
    answer = admin.patch(f"{LANES}/compute", raw, content_type="application/json")

    assert answer.status_code in (400, 422)
    assert not LaneSlot.objects.exists()


@pytest.mark.parametrize("lane", ["no-such", "Compute", "x" * 300, "compute%00", "%F0%9F%98%80"])
def test_a_lane_that_is_not_there_is_a_404(admin: Any, problem: Any, lane: str) -> None:
    problem(patch(admin, lane, limit=5), 404, "not_found")

    assert not LaneSlot.objects.exists()


def test_only_admins_change_lanes(viewer: Any, operator: Any, author: Any, nobody: Any, problem: Any) -> None:
    for client in (viewer, operator, author):
        problem(patch(client, limit=5), 403, "forbidden")
    problem(patch(nobody, limit=5), 401, "not_authenticated")
    problem(nobody.get(LANES), 401, "not_authenticated")

    assert not LaneSlot.objects.exists()


def test_another_workspaces_lanes_are_left_alone(admin: Any, stranger: Any, submit: Any) -> None:
    submit(echoes(3))
    patch(admin, limit=2)

    theirs = patch(stranger, limit=9, weight=3).json()

    assert (theirs["limit"], theirs["used"]) == (9, 0)
    assert {key: compute(admin)[key] for key in ("limit", "used", "weight")} == {"limit": 2, "used": 2, "weight": 1}


# --- Live ------------------------------------------------------------------------------
def test_a_raise_lets_queued_steps_go_on_at_once_and_rings_for_each(admin: Any, submit: Any, settings: Any) -> None:
    settings.LANE_SLOTS = 1
    submit(echoes(5))
    assert states() == {"ready": 1, "queued": 4}
    settings.DISPATCHER = f"{__name__}.heard"
    rung.clear()

    raised = patch(admin, limit=4)

    assert (raised.json()["used"], states()) == (4, {"ready": 4, "queued": 1})
    assert rung == ["compute"] * 3


def test_a_weight_alone_lets_nobody_in(admin: Any, submit: Any, settings: Any) -> None:
    settings.LANE_SLOTS = 1
    submit(echoes(3))

    patch(admin, weight=9)

    assert states() == {"ready": 1, "queued": 2}


def test_under_a_lowered_limit_what_has_not_started_goes_back_and_what_runs_ends(
    admin: Any, submit: Any, worker: Any
) -> None:
    run = submit(echoes(8))
    held = claim_some("compute", owner="w", limit=3)

    lowered = patch(admin, limit=2)

    assert (lowered.json()["limit"], lowered.json()["used"], states()) == (2, 3, {"running": 3, "queued": 5})
    assert LaneSlot.objects.get().over == 1
    assert (sweeps.admit(), claim("compute", owner="w")) == ([], None)
    assert_clean()

    complete(held[0], Result(1))
    assert (compute(admin)["used"], LaneSlot.objects.get().over, sweeps.admit()) == (2, 0, [])
    assert states() == {"succeeded": 1, "running": 2, "queued": 5}
    assert_clean()

    complete(held[1], Result(1))
    assert states() == {"succeeded": 2, "running": 1, "ready": 1, "queued": 4}
    assert_clean()

    complete(held[2], Result(1))
    assert worker.finish(run).status == "succeeded"
    assert compute(admin)["used"] == 0


def test_a_step_that_ends_above_the_limit_starts_no_more_children_than_it_gives_back(admin: Any, submit: Any) -> None:
    fan = [{"key": f"c{n}", "tool": "test.echo", "depends_on": ["s0"]} for n in range(4)]
    submit([*echoes(3), *fan])
    held = {one.key: one for one in claim_some("compute", owner="w", limit=3)}
    patch(admin, limit=1)

    complete(held["s0"], Result(1))

    assert compute(admin)["used"] <= 3
    assert states()["queued"] >= 3


def test_a_chain_that_runs_above_the_limit_keeps_its_slot_to_its_end(admin: Any, submit: Any) -> None:
    for _ in range(2):
        submit([*echoes(1), {"key": "next", "tool": "test.echo", "depends_on": ["s0"]}])
    held = claim_some("compute", owner="w", limit=2)
    patch(admin, limit=1)

    following = complete(held[0], Result(1)).next

    assert (following and following.key, compute(admin)["used"], LaneSlot.objects.get().over) == ("next", 2, 1)
    assert_clean()
    complete(following, Result(1))
    assert (compute(admin)["used"], LaneSlot.objects.get().over) == (1, 0)


def test_raised_again_what_went_back_comes_in_again_before_what_came_later(
    admin: Any, submit: Any, step_of: Any
) -> None:
    run = submit(echoes(3))
    patch(admin, limit=1)
    later = submit(echoes(1))

    patch(admin, limit=3)

    assert [step_of(run, f"s{n}").status for n in range(3)] == ["ready"] * 3
    assert step_of(later, "s0").status == "queued"


def test_a_step_that_a_claim_has_in_its_hands_is_left_and_comes_by_again(admin: Any, submit: Any) -> None:
    run = submit(echoes(3))
    with background() as start, transaction.atomic():
        assert Step.objects.select_for_update().get(run=run, key="s2").status == "ready"
        assert start(lambda: patch(admin, limit=1)).result().json()["used"] == 1
    assert states() == {"ready": 1, "queued": 2}


def test_a_limit_waits_for_the_slot_and_counts_what_was_taken_meanwhile(
    admin: Any, submit: Any, agent: Any, settings: Any
) -> None:
    settings.LANE_SLOTS = 2
    submit(echoes(5))
    held = claim_some("compute", owner="w", limit=2)
    with background() as start:
        with transaction.atomic():
            LaneSlot.objects.update(lim=4)
            assert slots.admit(agent.workspace_id, "compute") == 2
            lowered = start(lambda: patch(admin, limit=1))
            until(lambda: waiting_for_locks() == 1)
        assert lowered.result().status_code == 200

    assert (compute(admin)["used"], states()) == (2, {"running": 2, "queued": 3})
    for one in held:
        complete(one, Result(1))


def test_changes_at_the_same_moment_leave_one_row_as_one_of_them_wrote_it(admin: Any, submit: Any) -> None:
    answers = in_parallel(*(lambda n=n: patch(admin, limit=n, weight=n) for n in range(1, 7)))  # type: ignore[misc]

    assert {answer.status_code for answer in answers} == {200}
    row = LaneSlot.objects.get()
    assert row.lim == row.weight
    assert row.custom


def test_limits_go_up_and_down_while_workers_work(admin: Any, submit: Any) -> None:
    runs = [submit(echoes(6)) for _ in range(5)]

    def change() -> None:
        for limit in (1, 5, 2, 30, 1, 3) * 2:
            assert patch(admin, limit=limit).status_code == 200
            assert_clean()

    def work() -> None:
        idle = 0
        while idle < 50:
            held = claim("compute", owner="w")
            idle = 0 if held else idle + 1
            while held is not None:
                held = complete(held, Result(1)).next
            sweeps.admit()

    in_parallel(change, work, work)
    while states().keys() - {"succeeded"}:
        work()

    for run in runs:
        run.refresh_from_db()
    assert {run.status for run in runs} == {"succeeded"}
    assert compute(admin)["used"] == 0


rung: list[str] = []


def heard(lanes: Any) -> None:
    rung.extend(lanes)
