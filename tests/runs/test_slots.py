"""P13, I6: of a workspace and lane so many steps are ready or running, not one more, and none waits for nothing."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.db import IntegrityError, transaction

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.core.errors import ToolFailed
from agentsys.runs import batch, control, services
from agentsys.runs.models import LaneSlot, Run, Step
from agentsys.runs.store import children, claims, complete, moves, slots, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.submission import Submission
from tests.support.outages import lose_answer
from tests.support.rows import sql, value, wake_now
from tests.support.threads import background, in_parallel, until, waiting_for_locks
from tests.support.worker import events, statuses

CHAIN = [{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo", "depends_on": ["a"]}]


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def chain(length):
    return [echo(f"s{n}", depends_on=[f"s{n - 1}"] if n else []) for n in range(length)]


def fan(width):
    return [echo("a"), *(echo(f"b{n}", depends_on=["a"]) for n in range(width))]


def done(held):
    return complete.complete(held, Result(held.key))


@pytest.fixture
def limit(settings):
    """So many slots in every lane."""

    def set_to(slots_):
        settings.LANE_SLOTS = slots_

    return set_to


def slot(lane="compute"):
    return LaneSlot.objects.get(lane=lane)


def used(lane="compute"):
    return slot(lane).used


def holders():
    """What is ready or running, by how many."""
    return Step.objects.filter(status__in=("ready", "running")).count()


# --- Submission ------------------------------------------------------------------------
def test_first_steps_are_ready_while_slots_are_free_and_queued_above(submit, limit):
    limit(2)

    runs = [submit(CHAIN) for _ in range(3)]

    assert [statuses(run)["a"] for run in runs] == ["ready", "ready", "queued"]
    assert [(run.status, run.reason) for run in runs] == [("queued", ""), ("queued", ""), ("queued", "concurrency")]
    assert Run.objects.get(pk=runs[2].pk).reason == "concurrency"
    assert (used(), slot().hungry) == (2, True)


def test_of_one_run_as_many_first_steps_are_ready_as_there_are_slots(submit, limit):
    limit(3)

    run = submit([echo(f"s{n}") for n in range(5)])

    assert list(statuses(run).values()) == ["ready"] * 3 + ["queued"] * 2
    assert (run.reason, used()) == ("", 3)


def test_each_lane_has_slots_of_its_own(submit, limit):
    limit(1)

    run = submit([echo("a"), echo("b"), echo("c", tool="test.far"), echo("d", tool="test.far")])

    assert statuses(run) == {"a": "ready", "b": "queued", "c": "ready", "d": "queued"}
    assert (used("compute"), used("network")) == (1, 1)


def test_each_workspace_has_slots_of_its_own(submit, limit):
    limit(1)
    submit([echo()])
    elsewhere = Workspace.objects.create(slug="other", name="Other")
    other = Agent.objects.create(workspace=elsewhere, slug="assistant", name="Assistant")
    other.current_version = AgentVersion.objects.create(workspace=elsewhere, agent=other, number=1)
    other.save()

    run, _ = services.submit(
        workspace_id=elsewhere.pk, user=None, request=Submission(agent="assistant", plan={"steps": [echo()]})
    )

    assert statuses(run) == {"a": "ready"}
    assert list(LaneSlot.objects.values_list("used", flat=True)) == [1, 1]


def test_a_batch_takes_what_is_free_and_no_more(agent, limit, no_bell):
    limit(5)
    requests = [Submission(agent=agent.slug, plan={"steps": [echo("a"), echo("b")]}) for _ in range(4)]

    runs, _ = batch.submit_all(workspace_id=agent.workspace_id, user=None, requests=requests)

    found = [list(statuses(run).values()) for run in runs]
    assert found == [["ready", "ready"], ["ready", "ready"], ["ready", "queued"], ["queued", "queued"]]
    assert [run.reason for run in runs] == ["", "", "", "concurrency"]
    assert used() == 5


def test_runs_that_start_later_take_no_place_from_those_that_start_now(agent, limit, no_bell):
    limit(2)
    later = datetime.now(UTC) + timedelta(hours=1)
    starts = (later, later, None, None)
    requests = [Submission(agent=agent.slug, plan={"steps": [echo()]}, start_at=start) for start in starts]

    runs, _ = batch.submit_all(workspace_id=agent.workspace_id, user=None, requests=requests)

    assert [statuses(run)["a"] for run in runs] == ["sleeping", "sleeping", "ready", "ready"]


def test_a_submission_does_not_overtake_those_who_wait_for_a_slot_that_has_just_been_freed(submit, limit, monkeypatch):
    limit(1)
    submit([echo()])
    waits = submit([echo()])
    with monkeypatch.context() as crash:  # between the commit and the admission
        crash.setattr(slots, "admit_all", lambda _pairs: [])
        done(claim("compute", owner="w"))
    assert (used(), statuses(waits)) == (0, {"a": "queued"})

    late = submit([echo()])

    assert (statuses(waits), statuses(late), used()) == ({"a": "ready"}, {"a": "queued"}, 1)


def test_a_replayed_submission_takes_no_slot(submit):
    for _ in range(3):
        submit(CHAIN, key="once")

    assert used() == 1


@pytest.mark.promise("P13")
def test_submissions_at_the_same_moment_never_take_more_than_there_is(submit, limit):
    limit(5)

    in_parallel(*(lambda: [submit([echo("a"), echo("b")]) for _ in range(3)] for _ in range(6)))

    assert (used(), holders(), Step.objects.filter(status="queued").count()) == (5, 5, 31)


# --- The steady state ------------------------------------------------------------------
def test_a_chain_in_one_lane_leaves_the_slots_row_alone_until_its_end(submit):
    submit(chain(5))
    held = claim("compute", owner="w")
    before = value("SELECT xmin::text FROM runs_laneslot")

    for _ in range(4):
        held = done(held).next

    assert value("SELECT xmin::text FROM runs_laneslot") == before
    assert used() == 1
    done(held)
    assert used() == 0


def test_a_step_whose_run_ends_hands_its_slot_to_the_one_that_waits(submit, limit):
    limit(1)
    first, second = submit([echo()]), submit([echo()])
    held = claim("compute", owner="w")

    outcome = done(held)

    assert outcome.lanes == ["compute"]
    assert (statuses(second), used()) == ({"a": "ready"}, 1)
    assert events(second) == ["run.queued"]
    first.refresh_from_db()
    assert first.status == "succeeded"


def test_children_beyond_the_free_slots_wait_and_all_of_them_run(submit, limit, worker):
    limit(3)
    run = submit(fan(8))

    outcome = done(claim("compute", owner="w"))

    assert Counter(statuses(run).values()) == {"succeeded": 1, "running": 1, "ready": 2, "queued": 5}
    assert (used(), len(outcome.claims), len(outcome.lanes)) == (3, 1, 2)
    moves.give_back(outcome.next.id, run.pk, outcome.next.claim_token, why="released")
    assert worker.finish(run).status == "succeeded"
    assert used() == 0


def test_children_queue_behind_those_who_waited_before_them(submit, limit):
    limit(2)
    run, other = submit(fan(4)), submit([echo()])
    waits = submit([echo()])
    held = claim("compute", owner="w")
    assert held.run_id == run.pk

    done(held)

    assert Counter(statuses(run).values()) == {"succeeded": 1, "running": 1, "queued": 3}
    assert (statuses(other), statuses(waits)) == ({"a": "ready"}, {"a": "queued"})


def test_children_do_not_overtake_those_who_wait_for_a_slot_that_has_just_been_freed(submit, limit, monkeypatch):
    limit(2)
    run, other, waits = submit(fan(4)), submit([echo()]), submit([echo()])
    held = {one.run_id: one for one in claims.claim_some("compute", owner="w", limit=2)}
    with monkeypatch.context() as patch:
        patch.setattr(slots, "admit_all", lambda pairs: [])  # it comes a moment later
        done(held[other.pk])
        done(held[run.pk])
    assert (used(), Counter(statuses(run).values())) == (1, {"succeeded": 1, "running": 1, "queued": 3})

    sweeps.admit()

    assert (statuses(waits), Counter(statuses(run).values())["queued"]) == ({"a": "ready"}, 3)


def test_a_child_in_another_lane_takes_a_slot_there_and_gives_back_its_parents(submit, limit):
    limit(1)
    run = submit([echo("a"), echo("b", tool="test.far", depends_on=["a"])])
    waits = submit([echo()])

    outcome = done(claim("compute", owner="w"))

    assert sorted(outcome.lanes) == ["compute", "network"]
    assert (statuses(run)["b"], statuses(waits)["a"]) == ("ready", "ready")
    assert (used("compute"), used("network")) == (1, 1)


def test_a_join_in_the_same_lane_frees_the_slots_of_all_parents_but_one(submit):
    run = submit([echo("a"), echo("b"), echo("c", depends_on=["a", "b"])])
    held = claims.claim_some("compute", owner="w", limit=2)

    complete.complete_all([(one, Result(1)) for one in held], claim_next=1)

    assert (statuses(run)["c"], used()) == ("running", 1)


@pytest.mark.promise("P13")
def test_limits_hold_whatever_eight_workers_do_at_once(submit, limit):
    limit(4)
    runs = [submit(fan(6)) for _ in range(6)]
    most = []

    def work(n):
        idle = 0
        while idle < 50:
            held = claim("compute", owner=f"w{n}")
            if held is None:
                idle += 1
                sweeps.admit()
                continue
            while held is not None:
                most.append(used())
                held = done(held).next

    in_parallel(*(lambda n=n: work(n) for n in range(8)))

    assert {Run.objects.get(pk=run.pk).status for run in runs} == {"succeeded"}
    assert (max(most), used()) == (4, 0)


# --- Whoever leaves gives back ---------------------------------------------------------
def paused(run):
    control.pause(run)


def cancelled(run):
    services.cancel(run)


def overdue(run):
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() WHERE id = %s", run.pk)
    sweeps.end_past_deadline()


@pytest.mark.parametrize("leave", [paused, cancelled, overdue])
def test_a_run_that_stops_frees_the_slots_of_what_has_not_started(submit, limit, leave):
    limit(2)
    run, waits = submit([echo("a"), echo("b")]), submit([echo("x"), echo("y")])

    leave(run)

    assert (list(statuses(waits).values()), used()) == (["ready", "ready"], 2)
    assert "ready" not in statuses(run).values()


def test_what_was_paused_queues_for_its_slots_again(submit, limit):
    limit(1)
    run = submit([echo()])
    control.pause(run)
    other = submit([echo()])
    assert Step.objects.get(run=run).held == "paused"

    control.resume(run)

    step = Step.objects.get(run=run)
    assert (step.status, step.held, statuses(other)) == ("queued", "", {"a": "ready"})


def test_what_is_queued_in_a_paused_run_is_never_admitted_and_in_nobodys_way(submit, limit):
    limit(1)
    first, run, behind = submit([echo()]), submit([echo()]), submit([echo()])
    control.pause(run)

    done(claim("compute", owner="w"))
    sweeps.admit()

    assert (statuses(run), statuses(behind), used()) == ({"a": "queued"}, {"a": "ready"}, 1)
    done(claim("compute", owner="w"))
    assert used() == 0
    control.resume(run)
    assert statuses(run) == {"a": "ready"}
    first.refresh_from_db()
    assert first.status == "succeeded"


@pytest.mark.parametrize(
    "leave",
    [
        lambda held: moves.sleep(held, delay_s=60),
        lambda held: moves.fail(held, moves.Fault(ToolFailed("no"), "tool")),
        children.wait_for_child,
    ],
    ids=["sleeps", "fails", "waits"],
)
def test_a_step_that_sleeps_waits_or_fails_holds_no_slot(submit, limit, leave):
    limit(1)
    submit([echo()])
    waits = submit([echo()])

    leave(claim("compute", owner="w"))

    assert (statuses(waits), used()) == ({"a": "ready"}, 1)
    if leave is children.wait_for_child:  # there is none
        sql("DELETE FROM runs_run WHERE id <> %s", waits.pk)


@pytest.mark.parametrize("why", ["lease", "dead", "released"])
def test_a_step_that_is_given_back_keeps_its_slot_and_comes_first(submit, limit, why):
    limit(2)
    run, second, third = (submit([echo()]) for _ in range(3))
    held = claim("compute", owner="w")
    sql("UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE id = %s", held.id)

    assert list(moves.give_back(held.id, held.run_id, held.claim_token, why=why)) == ["compute"]

    assert (statuses(run)["a"], statuses(second)["a"], statuses(third)["a"]) == ("ready", "ready", "queued")
    assert (used(), claim("compute", owner="w").id) == (2, held.id)


def test_a_sleeper_that_wakes_queues_for_a_slot(submit, limit):
    limit(1)
    run = submit([echo()])
    moves.sleep(claim("compute", owner="w"), delay_s=60)
    other = submit([echo()])
    wake_now(run)

    assert sweeps.wake_sleepers() == []
    assert (statuses(run), statuses(other)) == ({"a": "queued"}, {"a": "ready"})

    done(claim("compute", owner="w"))
    assert statuses(run) == {"a": "ready"}


# --- What a crash leaves ---------------------------------------------------------------
def test_the_sweeper_admits_what_nobody_has(submit, limit):
    limit(1)
    submit([echo()])
    waits = submit([echo()])
    sql("UPDATE runs_laneslot SET hungry = false")  # whoever freed the slot was not told, or died before it admitted
    done(claim("compute", owner="w"))
    assert statuses(waits) == {"a": "queued"}

    assert sweeps.admit() == ["compute"]

    assert (statuses(waits), sweeps.admit()) == ({"a": "ready"}, [])


def test_an_admission_that_waited_for_another_still_says_that_somebody_waits(submit, limit, agent):
    limit(1)
    submit([echo()]), submit([echo()])
    with background() as start:
        with transaction.atomic():
            sql("UPDATE runs_laneslot SET hungry = false")  # as one does that has seen nobody waiting
            admitted = start(lambda: slots.admit(agent.workspace_id, "compute"))
            until(lambda: waiting_for_locks() == 1)
        assert admitted.result() == 0

    assert slot().hungry


def test_what_was_paused_before_there_were_slots_is_held(submit):
    run = submit([echo()])
    control.pause(run)
    sql("UPDATE runs_step SET held = ''")  # as the version before has paused it

    sql(import_module("agentsys.runs.migrations.0013_slots").HOLD)

    assert (sweeps.admit(), statuses(run)) == ([], {"a": "queued"})
    control.resume(run)
    assert statuses(run) == {"a": "ready"}


def test_an_admission_whose_answer_is_lost_is_neither_an_error_nor_a_second_one(submit, limit, monkeypatch):
    limit(1)
    submit([echo()])
    waits = submit([echo()])
    held = claim("compute", owner="w")
    lose_answer(monkeypatch, "admit")

    outcome = done(held)

    assert (outcome.lanes, statuses(waits), used()) == ((), {"a": "ready"}, 1)


def test_slots_that_are_miscounted_are_put_right_and_said_to_be(submit, caplog):
    run = submit([echo("a"), echo("b")])
    sql("UPDATE runs_laneslot SET used = 1")

    assert (sweeps.recount_slots(), used()) == (1, 2)
    assert "miscounted" in caplog.text
    assert sweeps.recount_slots() == 0
    services.cancel(run)


def test_more_than_the_limit_cannot_be_written(submit, limit):
    limit(1)
    submit([echo()])

    with pytest.raises(IntegrityError, match="laneslot_in_limit"), transaction.atomic():
        sql("UPDATE runs_laneslot SET used = 2")


def test_a_step_is_held_only_while_it_is_queued(submit):
    submit([echo()])

    with pytest.raises(IntegrityError, match="step_held_is_queued"), transaction.atomic():
        sql("UPDATE runs_step SET held = 'paused'")


# --- At the same moment ----------------------------------------------------------------
@pytest.mark.parametrize("round", range(5))
def test_pauses_cancels_resumes_and_admissions_at_once_never_block_each_other(submit, limit, round):
    limit(3)
    runs = [submit(fan(3)) for _ in range(8)]
    workspace_id = runs[0].workspace_id

    def steer(mine):
        for run in mine:
            control.pause(run)
            control.resume(run)
        services.cancel(mine[0])

    def admit():
        for _ in range(40):
            slots.admit(workspace_id, "compute")

    def work():
        for _ in range(10):
            if held := claim("compute", owner="w"):
                done(held)

    in_parallel(lambda: steer(runs[:3]), lambda: steer(runs[3:6][::-1]), admit, admit, work, work)

    assert used() == holders() <= 3


# --- Many -----------------------------------------------------------------------------------
def test_a_workspace_with_hundreds_of_slots_in_use_submits_ends_and_admits(submit, limit):
    """Places in the lane are microseconds: those of 215 steps are more than an int4 holds."""
    limit(600)
    for _ in range(4):
        submit([echo(f"s{n}") for n in range(150)])
    behind = submit(fan(2))
    assert (used(), statuses(behind)["a"]) == (600, "queued")

    done(claim("compute", owner="w"))

    assert (used(), statuses(behind)["a"]) == (600, "ready")
