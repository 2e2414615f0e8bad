"""A run's cap on its parallel steps: never more of them want a slot, are ready or running; at every commit."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from agentsys.agents.models import AgentVersion
from agentsys.core.errors import InvalidInput, ToolUnavailable
from agentsys.runs import batch, blockers, control, forks, services, verify
from agentsys.runs.models import Run
from agentsys.runs.states import Lane
from agentsys.runs.store import claims, complete, moves, parallel, slots, sweeps
from agentsys.runs.store.claims import Result
from agentsys.runs.submission import Submission
from agentsys.tools import registry, tool
from tests.support.rows import expire, sql, value, wake_now
from tests.support.threads import background, in_parallel, until, waiting_for_locks
from tests.support.worker import Worker, events, statuses

CAP = 2
ROUNDS = 10
UNDER_WAY = "s.status IN ('ready', 'running') OR (s.status = 'queued' AND s.held = '')"
#: Asked at each commit: is more of the run under way than its cap, and not only what ran when that was lowered?
GUARD = f"""
CREATE FUNCTION more_than_the_cap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE n int; waiting int; cap int;
BEGIN
    SELECT (limits -> 'parallel')::int INTO cap FROM runs_run WHERE id = NEW.run_id;
    SELECT count(*), count(*) FILTER (WHERE s.status <> 'running') INTO n, waiting FROM runs_step s
     WHERE s.run_id = NEW.run_id AND ({UNDER_WAY});
    IF n > cap AND (waiting > 0 OR NOT (SELECT over_cap FROM runs_run WHERE id = NEW.run_id)) THEN
        RAISE EXCEPTION 'run has too many steps under way';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER capped AFTER INSERT OR UPDATE ON runs_step DEFERRABLE INITIALLY DEFERRED
   FOR EACH ROW EXECUTE FUNCTION more_than_the_cap()"""


@pytest.fixture(autouse=True)
def _capped_at_every_commit(transactional_db, no_bell):
    sql(GUARD)
    yield
    sql("DROP FUNCTION more_than_the_cap() CASCADE")


@pytest.fixture
def flaky(monkeypatch):
    """A tool that is away until told otherwise."""
    registry.load()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))
    away = {"yes": True}

    @tool(effect="pure", lane="compute", name="test.away")
    def call() -> str:
        """Be away."""
        if away["yes"]:
            raise ToolUnavailable("not yet")
        return "here"

    return away


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def fan(width, **fields):
    """One step, so many after it, and one after all of them."""
    middle = [echo(f"b{n}", depends_on=["a"], **fields) for n in range(width)]
    return [echo("a"), *middle, echo("z", depends_on=[step["key"] for step in middle])]


def capped(cap=CAP):
    return {"parallel": cap}


def under_way(run):
    return value(f"SELECT count(*) FROM runs_step s WHERE s.run_id = %s AND ({UNDER_WAY})", run.pk)


def held(run):
    return set(run.steps.exclude(held="").values_list("key", flat=True))


def take(limit=10):
    return claims.claim_some("compute", owner="w", limit=limit)


# --- Where steps begin -----------------------------------------------------------------
def test_of_a_runs_first_steps_only_as_many_begin(submit, worker):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped())

    assert statuses(run) == {"a0": "ready", "a1": "ready", "a2": "queued", "a3": "queued", "a4": "queued"}
    assert held(run) == {"a2", "a3", "a4"}
    assert value("SELECT used FROM runs_laneslot WHERE lane = 'compute'") == CAP
    assert worker.finish(run).status == "succeeded"


def test_runs_of_a_batch_have_a_cap_each(agent, worker):
    plan = {"steps": [echo(f"a{n}") for n in range(4)]}
    requests = [Submission(agent=agent.slug, plan=plan, limits=limits) for limits in (capped(1), {}, capped(3))]

    batch.submit_all(workspace_id=agent.workspace_id, user=None, requests=requests)

    runs = list(Run.objects.all())
    assert sorted((run.limits.get("parallel", 0), under_way(run)) for run in runs) == [(0, 4), (1, 1), (3, 3)]
    assert [worker.finish(run).status for run in runs] == ["succeeded"] * 3


def test_children_of_a_step_take_its_place_and_the_others_that_are_free(submit, worker):
    run = submit(fan(6), limits=capped(3))
    (first,) = take()

    complete.complete(first, Result("done"), claim_next=False)

    assert (under_way(run), len(held(run))) == (3, 3)
    assert worker.finish(run).status == "succeeded"


def test_children_in_other_lanes_count(submit, worker):
    run = submit([echo("a"), *({"key": f"n{n}", "tool": "test.far", "arguments": {"value": n}, "depends_on": ["a"]}
                               for n in range(4))], limits=capped())  # fmt: skip
    complete.complete(take()[0], Result(1))
    assert under_way(run) == CAP
    assert worker.finish(run).status == "succeeded"


def test_a_run_without_a_cap_begins_them_all(submit, worker):
    run = submit(fan(6))
    complete.complete(take()[0], Result("done"), claim_next=False)
    assert (under_way(run), held(run)) == (6, set())
    assert worker.finish(run).status == "succeeded"


def test_a_plan_that_is_made_keeps_to_the_cap(submit, planner, worker):
    planner({"steps": [echo(f"a{n}") for n in range(5)]})
    run = submit(goal="five things", limits=capped())
    worker.drain(Lane.MODEL)

    assert (under_way(run), len(held(run))) == (CAP, 3)
    assert worker.finish(run).status == "succeeded"


def test_a_run_that_starts_later_keeps_to_the_cap_then(submit, worker):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped(), start_at=datetime.now(UTC) + timedelta(hours=1))
    assert (under_way(run), held(run)) == (0, set())

    wake_now(run)
    sweeps.wake_sleepers()

    assert (under_way(run), len(held(run))) == (CAP, 3)
    assert worker.finish(run).status == "succeeded"


@pytest.mark.parametrize("make", [control.retry, lambda run: forks.fork(run, forks.Fork(from_step="a0"))])
def test_a_retry_and_a_fork_have_the_cap_of_their_origin(submit, worker, make):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped())
    services.cancel(run)

    again, _ = make(run)

    assert (again.limits, under_way(again), len(held(again))) == (capped(), CAP, 3)
    assert worker.finish(again).status == "succeeded"


# --- Many at once ----------------------------------------------------------------------
@pytest.mark.promise("P13")
def test_workers_that_race_never_exceed_it_and_use_it(submit):
    """The trigger refuses a commit that does; the run ends, so no place is lost."""
    for width in range(ROUNDS):
        runs = [submit(fan(5 + width), limits=capped(cap)) for cap in (1, 2, 4)]
        in_parallel(*(Worker(f"w{n}").work for n in range(4)))
        for run in runs:
            assert Worker("last").finish(run).status == "succeeded"


def test_steps_that_end_together_give_their_places_together(submit, worker):
    run = submit(fan(8), limits=capped(4))
    complete.complete(take()[0], Result(1), claim_next=False)
    held_now = take()
    assert len(held_now) == 4

    complete.complete_all([(one, Result(1)) for one in held_now], claim_next=0)

    assert (under_way(run), held(run)) == (4, set())
    assert worker.finish(run).status == "succeeded"


def test_a_cap_and_a_slot_limit_hold_together(submit, settings):
    settings.LANE_SLOTS = 3
    runs = [submit(fan(6), limits=capped(2)) for _ in range(4)]
    in_parallel(*(Worker(f"w{n}").work for n in range(3)))
    assert [Worker("last").finish(run).status for run in runs] == ["succeeded"] * 4


# --- Places that come back ---------------------------------------------------------------
def test_a_step_that_sleeps_or_fails_gives_its_place_to_another(submit, worker, flaky):
    run = submit([{"key": f"a{n}", "tool": "test.away"} for n in range(4)], limits=capped())
    worker.drain("compute")

    assert set(statuses(run).values()) == {"sleeping"}
    flaky["yes"] = False
    wake_now(run)
    sweeps.wake_sleepers()
    assert (under_way(run), len(held(run))) == (CAP, 2)
    assert worker.finish(run).status == "succeeded"


def test_a_step_whose_worker_died_keeps_its_place(submit, worker):
    run = submit([echo(f"a{n}") for n in range(4)], limits=capped())
    assert len(take()) == CAP
    expire(run)

    for row in run.steps.filter(status="running"):
        moves.give_back(row.pk, run.pk, row.claim_token, why="dead")

    assert (under_way(run), len(held(run))) == (CAP, 2)
    assert worker.finish(run).status == "succeeded"


def test_a_question_holds_no_place(submit, worker):
    ask = {"kind": "ask", "objective": "Which one?"}
    run = submit([{"key": "q", **ask}, echo("a"), echo("b")], limits=capped(1))

    worker.work(sleepers=True)

    assert statuses(run) == {"q": "waiting", "a": "succeeded", "b": "succeeded"}
    services.cancel(run)


def test_what_a_crash_after_the_commit_left_over_the_sweeper_gives(submit, worker, monkeypatch):
    run = submit(fan(4), limits=capped(3))
    with monkeypatch.context() as crashed:
        crashed.setattr(parallel, "fit_all", lambda _runs: [])
        complete.complete(take()[0], Result(1), claim_next=False)
        assert (under_way(run), len(held(run))) == (1, 3)

    assert sorted(sweeps.fit()) == ["compute"] * 2

    assert (under_way(run), len(held(run))) == (3, 1)
    assert sweeps.fit() == []
    assert worker.finish(run).status == "succeeded"


@pytest.mark.violates
def test_a_run_that_cannot_be_moved_keeps_no_other_from_its_places(submit, monkeypatch):
    runs = sorted((submit(fan(4), limits=capped(3)) for _ in range(3)), key=lambda run: run.pk)
    with monkeypatch.context() as crashed:
        crashed.setattr(parallel, "fit_all", lambda _runs: [])
        for one in take(3):
            complete.complete(one, Result(1), claim_next=False)
    sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    sql(
        "CREATE TRIGGER no BEFORE UPDATE ON runs_step FOR EACH ROW"
        f" WHEN (OLD.run_id = '{runs[0].pk}') EXECUTE FUNCTION no()"
    )
    try:
        sweeps.fit()
        assert [under_way(run) for run in runs] == [1, 3, 3]
    finally:
        sql("DROP FUNCTION no() CASCADE")
    for run in runs:
        services.cancel(run)


def test_many_timers_of_runs_with_a_cap_cost_a_few_transactions(submit, django_assert_max_num_queries):
    runs = [submit([echo("a"), echo("b")], limits=capped(1)) for _ in range(60)]
    for _ in runs:
        (one,) = take(1)
        moves.sleep(one, delay_s=0)
    sweeps.fit()
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")

    with django_assert_max_num_queries(40):
        sweeps.wake_sleepers()

    assert {under_way(run) for run in runs} == {1}
    for run in runs:
        services.cancel(run)


# --- People ------------------------------------------------------------------------------
def test_a_pause_holds_all_and_a_resume_begins_as_many_as_before(submit, worker):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped())
    control.pause(run)
    assert (under_way(run), len(held(run))) == (0, 5)

    control.resume(run)

    assert (under_way(run), len(held(run))) == (CAP, 3)
    assert worker.finish(run).status == "succeeded"


def test_what_ends_while_the_run_is_paused_lets_nothing_begin(submit, worker):
    run = submit(fan(4), limits=capped())
    first = take()
    control.pause(run)
    complete.complete(first[0], Result(1))
    assert under_way(run) == 0
    control.resume(run)
    assert under_way(run) == CAP
    assert worker.finish(run).status == "succeeded"


def test_it_is_raised_live(submit, worker):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped())

    raised = control.resume(run, limits=capped(4))

    assert (raised.limits, under_way(run), len(held(run))) == (capped(4), 4, 1)
    assert worker.finish(run).status == "succeeded"


def test_it_is_lowered_live_and_what_has_not_started_goes_back(submit, worker):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped(4))
    running = take(2)

    control.resume(run, limits=capped(1))

    assert statuses(run) == {"a0": "running", "a1": "running", "a2": "queued", "a3": "queued", "a4": "queued"}
    assert held(run) == {"a2", "a3", "a4"}
    assert value("SELECT used FROM runs_laneslot WHERE lane = 'compute'") == 2
    complete.complete(running[0], Result(1), claim_next=False)
    assert under_way(run) == 1  # the other one still runs
    complete.complete(running[1], Result(1), claim_next=False)
    assert under_way(run) == 1
    assert worker.finish(run).status == "succeeded"


def chains(count, length=3):
    """So many chains side by side."""
    return [echo(f"c{n}_{k}", depends_on=[f"c{n}_{k - 1}"] if k else []) for n in range(count) for k in range(length)]


@pytest.mark.parametrize("claim_next", [False, True])
def test_under_a_lowered_cap_no_chain_hands_its_place_on_until_it_is_kept(submit, worker, claim_next):
    run = submit(chains(3), limits=capped(3))
    running = take(3)
    control.resume(run, limits=capped(1))

    for left, one in zip((2, 1, 1), running, strict=True):
        done = complete.complete(one, Result(1), claim_next=claim_next)
        assert under_way(run) == left
        assert (done.next is None) or one is running[-1]
    for last in done.claims:
        complete.complete(last, Result(1), claim_next=False)

    assert worker.finish(run).status == "succeeded"


def test_under_a_lowered_cap_what_ends_together_hands_no_place_on(submit, worker):
    run = submit(chains(4), limits=capped(4))
    control.resume(run, limits=capped(2))
    assert under_way(run) == 2
    control.resume(run, limits=capped(4))
    running = take(4)
    control.resume(run, limits=capped(2))

    complete.complete_all([(one, Result(1)) for one in running], claim_next=4)

    assert under_way(run) == 2
    run.refresh_from_db()
    assert run.over_cap is False
    assert worker.finish(run).status == "succeeded"


def test_a_running_step_beyond_a_lowered_cap_waits_when_it_is_given_back(submit, worker):
    run = submit([echo(f"a{n}") for n in range(3)], limits=capped(3))
    first, second = take(2)
    control.resume(run, limits=capped(1))

    moves.give_back(first.id, run.pk, first.claim_token, why="dead")

    assert statuses(run) == {"a0": "queued", "a1": "running", "a2": "queued"}
    complete.complete(second, Result(1), claim_next=False)
    assert worker.finish(run).status == "succeeded"


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_cap_that_is_lowered_takes_back_what_is_admitted_at_that_moment(submit, settings, analyzed):
    settings.LANE_SLOTS = 1
    run = submit(fan(40), limits=capped(30))
    complete.complete(take()[0], Result(1), claim_next=False)
    sql("UPDATE runs_laneslot SET lim = 11")
    if analyzed:
        sql("ANALYZE runs_step")

    with background() as start:
        with transaction.atomic():
            assert slots.admit(run.workspace_id, Lane.COMPUTE) == 10
            lowering = start(lambda: control.resume(run, limits=capped(2)))
            until(waiting_for_locks)
        lowering.result()

    assert sorted(statuses(run).values()).count("ready") == 2
    assert (under_way(run), value("SELECT used FROM runs_laneslot WHERE lane = 'compute'")) == (2, 2)
    assert Worker("last").finish(run).status == "succeeded"


def test_a_cap_that_is_lowered_while_the_time_is_used_up_is_kept_when_the_run_goes_on(submit, worker):
    run = submit(chains(3), limits=capped(3) | {"time_s": 1000})
    running = take(2)
    sql("UPDATE runs_run SET started_at = started_at - interval '1 hour', time_up_at = time_up_at - interval '1 hour'")
    sweeps.mind_budgets()

    control.resume(run, limits=capped(1))
    assert [finding for finding in verify.check() if finding.violations] == []
    control.resume(run, limits={"time_s": 9000})

    assert (under_way(run), len(held(run))) == (2, 1)
    for left, one in zip((1, 1), running, strict=True):
        complete.complete(one, Result(1), claim_next=False)
        assert under_way(run) == left
    assert worker.finish(run).status == "succeeded"


def test_raises_and_steps_that_end_at_once_agree(submit):
    for _ in range(ROUNDS):
        run = submit([echo(f"a{n}") for n in range(12)], limits=capped(4))
        in_parallel(
            Worker("a").work,
            Worker("b").work,
            lambda run=run: control.resume(run, limits=capped(1)),
            lambda run=run: control.resume(run, limits=capped(3)),
        )
        assert Worker("last").finish(run).status == "succeeded"


def test_a_cancel_ends_those_that_wait_for_a_place(submit):
    run = submit([echo(f"a{n}") for n in range(5)], limits=capped())
    services.cancel(run)
    run.refresh_from_db()
    assert (run.status, set(statuses(run).values()), held(run)) == ("cancelled", {"cancelled"}, set())


def test_a_run_says_that_its_steps_wait_for_each_other(submit, worker):
    run = submit([echo(f"a{n}") for n in range(3)], limits=capped(1))

    found = blockers.of(Run.objects.get(pk=run.pk), live_lanes=["compute"]).found

    assert [one.kind for one in found] == ["queue", "parallel", "parallel"]
    assert found[1].message == "a1 waits for others of the run, of which at most 1 may be under way at a time."
    assert f"runs/{run.pk}/resume" in found[1].unblock
    assert found[1].data == {"limit": 1}
    assert found[1].since is not None
    services.cancel(run)


# --- What it may be ----------------------------------------------------------------------
@pytest.mark.parametrize("cap", [0, -1, 1_001, 10**30, 1.5, float("nan"), "2", True, None, [], {}])
def test_a_cap_is_a_whole_number_from_1(submit, cap):
    with pytest.raises(InvalidInput) as refused:
        submit([echo()], limits={"parallel": cap})
    assert [fault["path"] for fault in refused.value.data["errors"]] == ["limits.parallel"]
    assert not Run.objects.exists()


def test_a_submission_may_narrow_its_agents_cap_and_not_widen_it(agent, submit):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="plan", limits=capped(3)
    )
    agent.save()

    runs = [submit([echo(f"a{n}") for n in range(9)], limits=limits) for limits in ({}, capped(2), capped(8))]

    assert [under_way(run) for run in runs] == [3, 2, 3]
    for run in runs:
        services.cancel(run)


def test_a_run_that_has_none_is_given_one_live(submit, worker):
    run = submit(fan(6))
    complete.complete(take()[0], Result(1), claim_next=False)
    running = take(3)

    control.resume(run, limits=capped(2))

    assert (under_way(run), len(held(run))) == (3, 3)
    assert Run.objects.get(pk=run.pk).limits == capped(2)
    for left, one in zip((2, 2, 2), running, strict=True):
        complete.complete(one, Result(1), claim_next=False)
        assert under_way(run) == left
    assert worker.finish(run).status == "succeeded"


def test_other_limits_that_a_run_has_not_are_refused(submit):
    run = submit([echo()])
    with pytest.raises(InvalidInput, match=r"no limit of steps"):
        control.resume(run, limits=capped() | {"steps": 5})
    assert Run.objects.get(pk=run.pk).limits == {}


def test_events_tell_of_a_new_cap(submit):
    run = submit([echo(f"a{n}") for n in range(3)], limits=capped(1))
    control.resume(run, limits=capped(2))
    assert "run.limits_changed" in events(run)
    services.cancel(run)
    assert slots.admit(run.workspace_id, "compute") == 0
