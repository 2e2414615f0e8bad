"""A delegate step starts one child run, waits for it without a worker, and ends as it does."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.core.errors import InvalidTransition, LeaseLost, PlanInvalid
from agentsys.runs import approvals, control, handlers, leases, services, verify
from agentsys.runs.models import Run
from agentsys.runs.store import children, kin, moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.approvals import ask, open_of
from tests.support.plans import messages
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def delegate(key="d", *steps, answer=None, **fields):
    """A step whose child runs these steps."""
    plan = {"steps": list(steps) or [echo("x", "${input}")]} | ({"answer": answer} if answer else {})
    arguments = {"plan": plan, **fields.pop("arguments", {})}
    return {"key": key, "kind": "delegate", "arguments": arguments, **fields}


WAITS = {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}


def child_of(run):
    return Run.objects.get(parent_run=run, parent_step__isnull=False)


def swept(worker):
    """Work and sweep, level by level, until nothing is left to do."""
    for _ in range(6):
        worker.work(sleepers=True)
        sweeps.join_children()
        sweeps.cancel_orphans()


def test_a_childs_result_is_its_steps_output(submit, worker, step_of):
    run = submit(
        [echo("a", [1, 2]), delegate(arguments={"input": {"n": "${a}"}}), echo("z", "${d.x.n[1]}")], priority=3
    )

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"z": 2})
    child = child_of(run)
    assert (child.depth, child.priority, child.parent_step) == (1, 3, step_of(run, "d").pk)
    assert (child.agent_version_id, child.input, child.result) == (
        run.agent_version_id,
        {"n": [1, 2]},
        {"x": {"n": [1, 2]}},
    )
    assert step_of(run, "d").output == child.result
    assert child.events.get(seq=1).data == {"child_of": str(run.pk), "step": "d"}
    told = events(run)
    assert told[told.index("step.started d") :][:3] == ["step.started d", "step.waiting d", "run.waiting"]


def test_a_goal_is_planned_by_the_child(submit, worker):
    goal = {"key": "d", "kind": "delegate", "objective": 'Count the words in "${input}"'}
    run = worker.finish(submit([goal], input="one two three"))

    assert run.status == "succeeded"
    assert child_of(run).goal == 'Count the words in "one two three"'
    assert "plan.1" in statuses(child_of(run))
    assert (run.model_calls, child_of(run).model_calls) == (0, 1)


def test_no_worker_is_held_while_the_child_works(submit, worker, step_of):
    run = submit([delegate("d", {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}})])

    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("waiting", "child", {"d": "waiting"})
    assert step_of(run, "d").lease_expires_at is None
    assert run.attempts.get().outcome == "delegated"
    services.cancel(run)
    sweeps.cancel_orphans()


def test_a_failed_child_fails_its_step_with_its_error(submit, worker, step_of):
    run = submit(
        [delegate("d", {"key": "x", "tool": "test.fail", "arguments": {"message": "sold out"}}), echo("z", "${d}")]
    )

    worker.work()  # at once: nobody sweeps

    run.refresh_from_db()
    child = child_of(run)
    assert (run.status, run.reason, child.status) == ("failed", "error", "failed")
    error = step_of(run, "d").error
    assert (error["code"], error["data"]["child_run_id"]) == ("child_failed", str(child.pk))
    assert error["data"]["error"]["message"] == "sold out"
    assert run.attempts.count() == 1


def test_a_plan_may_go_on_without_a_child(submit, worker):
    steps = [delegate("d", {"key": "x", "tool": "test.fail"}, on_error="continue"), echo("z", "${d}", if_failed="null")]
    run = submit(steps)

    swept(worker)

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"z": None})


def test_a_child_that_somebody_cancels_fails_its_step(submit, worker, step_of):
    run = submit([delegate("d", {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}})])
    worker.work()

    services.cancel(child_of(run))

    run.refresh_from_db()
    assert run.status == "failed"
    assert step_of(run, "d").error["data"]["error"]["code"] == "cancelled"


CHARGE = {"key": "c", "tool": "test.charge", "arguments": {"how": "unknown"}}


def _denied(child):
    approvals.deny(open_of(child), user=None)


def _said_to_have_failed(child):
    services.resolve(child, "c", outcome="failed")


def _said_to_be_done(child):
    services.resolve(child, "c", outcome="done", result=1)


def _answered(child):
    approvals.answer(open_of(child), user=None, answer="bob")


def _too_late(child):
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() WHERE id = %s", child.pk)
    sweeps.end_past_deadline()


@pytest.mark.parametrize(
    ("step", "ends", "status"),
    [
        (ask(), _denied, "failed"),
        (ask(), _answered, "succeeded"),
        (ask(), _too_late, "failed"),
        (CHARGE, _said_to_have_failed, "failed"),
        (CHARGE, _said_to_be_done, "succeeded"),
    ],
)
def test_however_a_child_ends_its_parent_moves_at_once(submit, worker, step, ends, status):
    run = submit([delegate("d", step)])
    worker.work()

    ends(child_of(run))  # nobody sweeps

    run.refresh_from_db()
    assert (run.status, statuses(run)) == (status, {"d": status})


def test_a_crash_between_a_childs_end_and_its_parents_is_made_good_by_the_sweeper(submit, worker, monkeypatch):
    run = submit([delegate("d", {"key": "x", "tool": "test.fail"})])
    with monkeypatch.context() as patch:
        patch.setattr(kin, "take_over", lambda *_: ())
        worker.work()
    assert (child_of(run).status, statuses(run)) == ("failed", {"d": "waiting"})

    sweeps.join_children()

    run.refresh_from_db()
    assert run.status == "failed"


@pytest.mark.parametrize("lost", ["lease", "cancel"])
def test_a_step_that_may_no_more_starts_no_child(submit, worker, lost):
    run = submit([delegate()])
    held = leases.hold(claim("system", owner="w"))
    if lost == "lease":
        moves.give_back(held.claim.id, run.pk, held.claim.claim_token, why="dead")
    services.cancel(run)
    before = photograph()

    with pytest.raises(LeaseLost):
        handlers.delegate(held)

    assert photograph() == before
    leases.drop(held)
    moves.give_back(held.claim.id, run.pk, held.claim.claim_token, why="released")
    run.refresh_from_db()
    assert run.status == "cancelled"


# --- Started once ----------------------------------------------------------------------
def test_an_attempt_that_comes_again_finds_the_child_of_the_first(submit, worker):
    run = submit([delegate()])
    first = claim("system", owner="w")
    kept = leases.hold(first)
    handlers.delegate(kept)
    leases.drop(kept)
    moves.give_back(first.id, run.pk, first.claim_token, why="dead")  # it died before it could say so

    worker.finish(run)

    assert run.status == "succeeded"
    assert Run.objects.filter(parent_run=run).count() == 1
    assert run.attempts.count() == 2


def test_a_child_that_ends_before_its_parent_waits_is_found(submit, worker):
    run = submit([delegate()])
    held = claim("system", owner="w")
    kept = leases.hold(held)
    handlers.delegate(kept)
    leases.drop(kept)
    assert worker.finish(child_of(run)).status == "succeeded"

    children.wait_for_child(held)

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"d": {"x": None}})


def test_several_attempts_at_once_start_one_child(submit):
    for _ in range(10):
        run = submit([delegate()])
        held = claim("system", owner="w")
        kept = leases.hold(held)

        in_parallel(*[lambda kept=kept: handlers.delegate(kept)] * 3)

        assert Run.objects.filter(parent_run=run).count() == 1
        leases.drop(kept)
        moves.give_back(held.id, run.pk, held.claim_token, why="released")
        services.cancel(run)
        sweeps.cancel_orphans()


def test_the_hint_and_the_sweeper_at_once_take_a_child_over_once(submit, worker):
    for _ in range(10):
        run = submit(
            [
                delegate("d", {"key": "x", "tool": "test.fail"}, on_error="continue"),
                echo("z", depends_on=["d"], if_failed="null"),
            ]
        )
        worker.work()

        in_parallel(
            sweeps.join_children, lambda run=run: children.take_over(run.steps.get(key="d").pk), sweeps.join_children
        )

        assert events(run).count("step.failed d") == 1
        worker.finish(run)


# --- What ends the one ends the other ----------------------------------------------------
def test_a_cancel_reaches_children_and_theirs(submit, worker):
    wait = {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}
    run = submit([delegate("d", delegate("e", wait))])
    worker.work()
    child = child_of(run)
    grandchild = child_of(child)

    assert services.cancel(run).status == "cancelled"  # at once: nobody sweeps

    for one in (child, grandchild):
        one.refresh_from_db()
        assert (one.status, one.reason) == ("cancelled", "parent")
    before = photograph()
    sweeps.cancel_orphans(), sweeps.join_children()
    assert photograph() == before


def test_what_a_crash_left_of_a_cancel_the_sweeper_does(submit, worker, monkeypatch):
    run = submit([delegate("d", delegate("e", WAITS))])
    worker.work()
    child = child_of(run)
    with monkeypatch.context() as patch:
        patch.setattr(kin, "stop_children", lambda *_: None)
        services.cancel(run)
    child.refresh_from_db()
    assert child.status == "waiting"

    sweeps.cancel_orphans()  # and from there on each stops those below it

    for one in (child, child_of(child)):
        one.refresh_from_db()
        assert (one.status, one.reason) == ("cancelled", "parent")


def test_a_child_that_was_made_just_before_its_parent_stops_ends_with_its_step(submit, worker):
    run = submit([delegate("d", WAITS)])
    held = claim("system", owner="w")
    kept = leases.hold(held)
    handlers.delegate(kept)
    leases.drop(kept)
    services.cancel(run)

    assert list(children.wait_for_child(held)) == []

    run.refresh_from_db()
    assert (run.status, child_of(run).status) == ("cancelled", "cancelled")


def test_a_cancel_racing_with_the_childs_end_gives_each_one_end(submit, worker):
    for _ in range(10):
        run = submit([delegate()])
        worker.drain("system")

        in_parallel(lambda: worker.drain("compute"), lambda run=run: _try_cancel(run), sweeps.join_children)
        sweeps.cancel_orphans(), sweeps.join_children()

        run.refresh_from_db()
        assert run.finished_at
        assert child_of(run).finished_at


def _try_cancel(run):
    with suppress(InvalidTransition):
        services.cancel(run)


def test_a_paused_parent_takes_its_childs_result_and_goes_on_after_the_resume(submit, worker):
    run = submit([delegate(), echo("z", "${d}")])
    worker.drain("system")
    held = claim("compute", owner="w")  # the child's only step runs, and a pause lets it end
    control.pause(run)

    children.take_over(complete(held, Result(1)).parent_step)

    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("paused", {"d": "succeeded", "z": "queued"})
    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def test_a_retry_keeps_what_a_child_gave_and_starts_a_new_one_for_what_it_did_not(submit, worker):
    run = submit([delegate("d"), delegate("e", {"key": "x", "tool": "test.fail"}, depends_on=["d"])])
    swept(worker)
    run.refresh_from_db()
    assert run.status == "failed"

    again, _ = control.retry(run)

    assert statuses(again) == {"d": "succeeded", "e": "ready"}
    swept(worker)
    again.refresh_from_db()
    assert again.status == "failed"
    assert Run.objects.filter(parent_run=again, parent_step__isnull=False).count() == 1


# --- Bounds -----------------------------------------------------------------------------
def test_a_child_has_its_parents_deadline_and_its_own_agents_limits(submit, worker):
    run = submit([echo("a"), delegate("d", echo("x"), echo("y"))], deadline_s=500, limits={"steps": 5})

    worker.work()

    child = child_of(run)
    assert (child.deadline_at, child.limits) == (run.deadline_at, {})


def test_depth_has_a_bound(submit, worker, settings):
    settings.RUN_MAX_DEPTH = 2
    run = submit([delegate("a", delegate("b", delegate("c", echo("x"))))])

    swept(worker)

    deepest = child_of(child_of(run))
    assert deepest.depth == 2
    assert (deepest.status, deepest.error["code"]) == ("failed", "depth_exceeded")
    run.refresh_from_db()
    assert run.status == "failed"
    assert Run.objects.count() == 3


def test_the_number_of_children_has_a_bound(submit, worker, settings):
    settings.RUN_MAX_CHILDREN = 2
    run = submit([delegate(f"d{n}", on_error="continue") for n in range(3)])

    swept(worker)

    assert statuses(run) == {"d0": "succeeded", "d1": "succeeded", "d2": "failed"}
    assert run.steps.get(key="d2").error["code"] == "too_many_children"


# --- Other agents, and plans that cannot be ------------------------------------------------
def test_another_agent_of_the_workspace_does_it_with_its_own_tools(submit, worker, workspace):
    other = Agent.objects.create(workspace=workspace, slug="clerk", name="Clerk")
    other.current_version = AgentVersion.objects.create(workspace=workspace, agent=other, number=1, tools=["test.echo"])
    other.save()
    good = submit([delegate("d", arguments={"agent": "clerk"})])
    bad = submit([delegate("d", {"key": "x", "tool": "test.far"}, arguments={"agent": "clerk"})])

    swept(worker)

    good.refresh_from_db(), bad.refresh_from_db()
    assert (good.status, child_of(good).agent_version_id) == ("succeeded", other.current_version_id)
    assert bad.steps.get().error["code"] == "plan_invalid"


@pytest.mark.parametrize("slug", ["nobody", "theirs"])
def test_an_agent_that_is_not_here_is_not_found(submit, worker, slug):
    elsewhere = Workspace.objects.create(slug="elsewhere", name="Elsewhere")
    other = Agent.objects.create(workspace=elsewhere, slug="theirs", name="Theirs")
    other.current_version = AgentVersion.objects.create(workspace=elsewhere, agent=other, number=1, mode=Mode.PLAN)
    other.save()
    run = submit([delegate("d", arguments={"agent": slug})])

    worker.finish(run)

    assert run.steps.get().error["code"] == "not_found"


BAD = [
    ({}, "needs a goal or a plan"),
    ({"arguments": {"goal": 5}}, "goal must be a text"),
    ({"arguments": {"goal": " "}}, "goal has 1 to"),
    ({"objective": "x", "arguments": {"goal": "y"}}, "give it once"),
    ({"arguments": {"goal": "x", "agent": []}}, "agent must be a text"),
    ({"arguments": {"goal": "x", "agent": "a" * 51}}, "agent has 1 to 50"),
    ({"arguments": {"plan": [1]}}, "plan must be an object"),
    ({"arguments": {"plan": {"steps": [{"key": "x", "tool": "test.ecko"}]}}}, "no tool"),
    ({"arguments": {"goal": "x", "files": {}}}, "delegate takes only"),
    ({"arguments": {"goal": "${nobody}"}}, "no step"),
    ({"objective": "x", "tool": "test.echo"}, "takes no tool"),
    ({"objective": "x", "approval": True}, "cannot"),
]


@pytest.mark.parametrize(("step", "said"), BAD, ids=[said for _, said in BAD])
def test_a_delegate_step_that_cannot_be_is_refused_with_its_plan(step, said):
    assert any(said in message for message in messages({"steps": [{"key": "d", "kind": "delegate", **step}]}))


def test_a_goal_that_renders_to_no_text_fails_its_step(submit, worker):
    run = worker.finish(submit([echo("a", [1]), {"key": "d", "kind": "delegate", "objective": "${a}"}]))

    assert run.steps.get(key="d").error["code"] == "invalid_input"


@pytest.mark.violates
def test_verify_finds_a_parent_that_waits_in_vain_and_a_child_that_goes_on_for_nobody(submit, worker, monkeypatch):
    wait = {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}
    vain, nobody = submit([delegate()]), submit([delegate("d", wait)])
    worker.drain("system")
    with monkeypatch.context() as patch:
        patch.setattr(kin, "take_over", lambda *_: ())
        patch.setattr(kin, "stop_children", lambda *_: None)
        services.cancel(child_of(vain)), services.cancel(nobody)
    ago = "clock_timestamp() - interval '1 minute'"
    sql("ALTER TABLE runs_run DISABLE TRIGGER USER"), sql("ALTER TABLE runs_step DISABLE TRIGGER USER")
    try:
        sql(f"UPDATE runs_run SET created_at = {ago}, finished_at = CASE WHEN finished_at IS NOT NULL THEN {ago} END")
        sql(f"UPDATE runs_step SET finished_at = {ago} WHERE finished_at IS NOT NULL")
    finally:
        sql("ALTER TABLE runs_run ENABLE TRIGGER USER"), sql("ALTER TABLE runs_step ENABLE TRIGGER USER")

    (found,) = [one for one in verify.check() if one.violations]

    assert (found.name, found.violations) == ("I14", 2)


def test_a_run_that_starts_later_does_not_move_its_childs_clock(submit, worker):
    run = submit([delegate()], start_at=datetime.now(UTC) + timedelta(milliseconds=20))

    worker.finish(run)

    assert child_of(run).start_at is None


def test_a_plan_with_a_faulty_child_is_refused_at_once(submit):
    with pytest.raises(PlanInvalid) as caught:
        submit([delegate("d", {"key": "x", "tool": "nope"}, {"key": "x", "tool": "test.echo"})])

    paths = [error["path"] for error in caught.value.data["errors"]]
    assert paths == ["steps[0].arguments.plan.steps[1].key", "steps[0].arguments.plan.steps[0].tool"]
    assert not Run.objects.exists()


def test_the_events_of_a_delegate_step_name_its_child(submit, worker):
    run = worker.finish(submit([delegate("d", echo("x"))]))

    told = run.events.filter(step="d", type__in=("step.waiting", "step.succeeded"))
    assert [event.data["child_run_id"] for event in told] == [str(child_of(run).pk)] * 2
