"""Child runs pause with their parent and go on with it, whoever is there to see to it."""

from contextlib import suppress

import pytest

from agentsys.core.errors import InvalidTransition
from agentsys.runs import control, handlers, leases, services
from agentsys.runs.models import Run
from agentsys.runs.store import control as store_control
from agentsys.runs.store import families, moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support.approvals import ask, echo
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses

WAIT = {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}


def delegate(key="d", *steps, **fields):
    return {"key": key, "kind": "delegate", "arguments": {"plan": {"steps": list(steps)}}, **fields}


def child_of(run):
    return Run.objects.get(parent_run=run, parent_step__isnull=False)


def state(run):
    run.refresh_from_db()
    return run.status, run.reason


@pytest.fixture
def family(submit, worker):
    """A run, its child and its grandchild, of which each has something that could go on."""
    run = submit([delegate("d", delegate("e", WAIT, echo("x")), echo("y")), echo("z")])
    worker.drain("system")
    child = child_of(run)
    worker.drain("system")
    return run, child, child_of(child)


def test_a_whole_family_pauses_and_goes_on_with_its_first(family, worker):
    run, child, grandchild = family

    control.pause(run)

    assert (state(run), state(child), state(grandchild)) == (
        ("paused", "operator"),
        ("paused", "parent"),
        ("paused", "parent"),
    )
    assert worker.work() == 0
    control.resume(run)
    assert {one.status for one in Run.objects.all()} <= {"running", "waiting", "queued"}
    worker.work()
    assert statuses(grandchild) == {"w": "sleeping", "x": "succeeded"}
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")
    assert worker.finish(run).status == "succeeded"
    assert [told for told in events(child) if told.startswith("run.")].count("run.paused") == 1


def test_a_child_that_a_person_has_paused_stays_so_when_its_parent_goes_on(family):
    run, child, grandchild = family
    control.pause(child)
    assert state(grandchild) == ("paused", "parent")

    control.pause(run)
    control.resume(run)

    assert (state(child), state(grandchild)) == (("paused", "operator"), ("paused", "parent"))
    control.resume(child)
    assert state(grandchild)[0] == "running"


def test_a_persons_pause_of_a_child_that_is_paused_already_stays_when_the_parent_goes_on(family, worker, make_user):
    run, child, grandchild = family
    control.pause(run)

    control.pause(child, user=make_user("olga"))

    assert (state(child), state(grandchild)) == (("paused", "operator"), ("paused", "parent"))
    assert child.events.filter(type="run.paused").last().data == {"reason": "operator", "by": "olga"}
    control.resume(run)
    assert sweeps.follow_parents() == []
    assert (state(child), state(grandchild)) == (("paused", "operator"), ("paused", "parent"))
    assert worker.work() == 0 or state(child) == ("paused", "operator")
    control.resume(child)
    assert state(grandchild)[0] == "running"
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")
    assert worker.finish(run).status == "succeeded"


def test_a_person_who_pauses_the_same_child_twice_changes_nothing_the_second_time(family):
    run, child, _ = family
    control.pause(run)
    control.pause(child)
    before = photograph()

    control.pause(child)
    control.pause(run)
    families.follow(run.pk)

    assert photograph() == before


def test_a_pause_of_a_child_and_the_resume_of_its_parent_at_once_end_in_a_pause(family):
    run, child, _ = family
    control.pause(run)

    in_parallel(lambda: control.pause(child), lambda: control.resume(run))

    assert state(run)[0] != "paused"
    assert state(child) == ("paused", "operator")


def test_a_child_does_not_go_on_without_its_parent(family):
    run, child, _ = family
    control.pause(run)
    before = photograph()

    with pytest.raises(InvalidTransition, match="parent"):
        control.resume(child)

    assert photograph() == before


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_a_crash_left_over_the_sweeper_does_level_by_level(family, verb):
    run, child, grandchild = family
    if verb == "resume":
        control.pause(run)
    getattr(store_control, verb)(run.pk)  # and no further: a crash

    sweeps.follow_parents()

    paused = ("paused", "parent")
    for one in (child, grandchild):
        assert (state(one) == paused) == (verb == "pause")
    before = photograph()
    assert sweeps.follow_parents() == []
    assert photograph() == before


def test_a_child_that_is_made_while_its_parent_is_paused_is_paused(submit, worker):
    run = submit([delegate("d", echo("x"))])
    held = leases.hold(claim("system", owner="w"))
    control.pause(run)

    handlers.delegate(held)

    assert state(child_of(run)) == ("paused", "parent")
    leases.drop(held)
    moves.give_back(held.claim.id, run.pk, held.claim.claim_token, why="released")
    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def test_a_decision_on_a_paused_child_is_kept_for_the_resume(submit, worker):
    run = submit([delegate("d", ask())])
    worker.work()
    child = child_of(run)

    control.pause(run)
    services.cancel(child)

    assert state(child)[0] == "cancelled"
    assert state(run) == ("failed", "error")  # a pause starts nothing, and what ends, ends


def test_a_cancelled_parent_takes_its_paused_family_with_it(family):
    run, child, grandchild = family
    control.pause(run)

    services.cancel(run)

    assert [state(one) for one in (run, child, grandchild)] == [
        ("cancelled", "user"),
        ("cancelled", "parent"),
        ("cancelled", "parent"),
    ]


def test_retries_and_forks_of_a_paused_run_are_no_children_of_it(submit, worker):
    run = submit([echo("a"), {"key": "b", "tool": "test.fail"}])
    worker.finish(run)
    again, _ = control.retry(run)

    assert families.follow(run.pk) == []
    assert state(again)[0] == "queued"


def test_pauses_and_resumes_at_once_leave_children_as_their_parent_is(family):
    run, child, grandchild = family
    for _ in range(10):
        in_parallel(
            lambda: control.pause(Run.objects.get(pk=run.pk)),
            lambda: _resume(Run.objects.get(pk=run.pk)),
            sweeps.follow_parents,
        )
        sweeps.follow_parents()

        is_paused = state(run)[0] == "paused"
        assert [state(one) == ("paused", "parent") for one in (child, grandchild)] == [is_paused] * 2


def _resume(run):
    with suppress(InvalidTransition):
        control.resume(run)
