"""Waits and retries live in PostgreSQL: never early, woken once, kept through a crash."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from agentsys.runs import control
from agentsys.runs.models import Run
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support.rows import sql, value, wake_now
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


def wait(key="a", **arguments):
    return {"key": key, "kind": "wait", "arguments": arguments}


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def available_in_s():
    return value("SELECT extract(epoch FROM available_at - clock_timestamp())::float8 FROM runs_step WHERE key = 'a'")


@pytest.mark.promise("P17")
def test_a_sleeper_is_never_woken_early(submit, worker):
    runs = [submit([wait(seconds=0.02 * n)]) for n in range(10)]
    worker.work()
    woken = 0
    while woken < len(runs):
        early = value("SELECT count(*) FROM runs_step WHERE status = 'ready' AND available_at > ready_at")
        assert early == 0
        woken += len(sweeps.wake_sleepers())
    assert value("SELECT count(*) FROM runs_step WHERE status = 'ready' AND ready_at >= available_at") == 10
    worker.work()


def test_many_sweepers_wake_a_sleeper_once(submit, worker):
    runs = [submit([wait(seconds=1000)]) for _ in range(30)]
    worker.work()
    sql("UPDATE runs_step SET available_at = clock_timestamp()")

    lanes = [lane for some in in_parallel(*[sweeps.wake_sleepers] * 8) for lane in some]

    assert Counter(lanes) == {"system": 30}
    assert all(statuses(run) == {"a": "ready"} for run in runs)
    worker.work()


def test_sleepers_that_are_due_together_are_woken_together_however_many(submit, worker, monkeypatch):
    monkeypatch.setattr(sweeps, "BATCH", 3)
    for _ in range(7):
        submit([wait(seconds=0)])
    worker.work()

    assert [len(sweeps.wake_sleepers()) for _ in range(2)] == [7, 0]
    worker.work()


def test_one_sweep_wakes_no_more_than_its_share(submit, worker, monkeypatch):
    monkeypatch.setattr(sweeps, "BATCH", 2)
    monkeypatch.setattr(sweeps, "MAX_BATCHES", 2)
    for _ in range(7):
        submit([wait(seconds=0)])
    worker.work()

    assert [len(sweeps.wake_sleepers()) for _ in range(3)] == [4, 3, 0]
    worker.work()


@pytest.mark.parametrize(
    ("seconds", "least", "most"), [(0, -2, 0), (0.5, -2, 0.5), (90, 88, 90), (31_536_000, 31_535_990, 31_536_000)]
)
def test_a_wait_sleeps_as_long_as_it_says(submit, worker, seconds, least, most):
    run = submit([wait(seconds=seconds), echo("b", "${a.waited_until}")])

    worker.work()

    assert least < available_in_s() <= most
    wake_now(run)
    worker.finish(run)
    assert (run.status, run.steps.get(key="a").attempt) == ("succeeded", 2)
    assert datetime.fromisoformat(run.result["b"]) <= datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize("shift", ["", "+05:30", "-11:00", "Z"])
def test_a_wait_until_a_time_respects_its_zone_and_is_utc_without_one(submit, worker, shift):
    moment = datetime.now(UTC) + timedelta(hours=20)
    local = (
        moment
        if shift in ("", "Z")
        else moment.astimezone(datetime.fromisoformat(f"2000-01-01T00:00:00{shift}").tzinfo)
    )
    submit([wait(until="${input}")], input=local.replace(tzinfo=None).isoformat() + shift)

    worker.work()

    assert 71_990 < available_in_s() <= 72_000


def test_a_wait_for_a_time_that_has_passed_is_over_at_once(submit, worker):
    run = worker.finish(submit([wait(until="2001-01-01T00:00:00Z"), echo("b", depends_on=["a"])]))

    assert run.status == "succeeded"


@pytest.mark.parametrize(
    "arguments",
    [
        {"seconds": "${input.much}"},
        {"seconds": "${input.text}"},
        {"seconds": "${input.none}"},
        {"seconds": "${input.less}"},
        {"seconds": "${input.yes}"},
        {"until": "${input.much}"},
        {"until": "${input.text}"},
        {"until": "${input.far}"},
        {"until": "${input.edge}"},
        {"until": "${input.none}"},
    ],
    ids=str,
)
def test_a_time_that_makes_no_sense_fails_the_step_when_it_is_known(submit, worker, arguments):
    odd = {"much": 1e300, "text": "tomorrow", "none": None, "less": -1, "yes": True, "far": "9999-12-31T23:59:59-14:00"}
    odd["edge"] = "0001-01-01T00:00:00+14:00"
    run = worker.finish(submit([wait(**arguments)], input=odd))

    assert (run.status, run.reason, run.error["code"]) == ("failed", "error", "invalid_input")


def test_a_timer_that_has_run_out_is_not_started_again_by_a_crash(submit, worker):
    """The worker dies, or is told to end, just as it notes that the time has come."""
    run = submit([wait(seconds=1000), echo("b", depends_on=["a"])])
    worker.work()
    wake_now(run)
    sweeps.wake_sleepers()
    for why in ("dead", "released"):
        held = claim("system", owner="w")
        assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == ["system"]

    worker.work()

    run.refresh_from_db()
    assert (run.status, events(run).count("step.sleeping a")) == ("succeeded", 1)


def test_a_timer_does_not_run_out_by_a_crash_before_it_sleeps(submit, worker):
    run = submit([wait(seconds=1000)])
    held = claim("system", owner="w")
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")

    worker.work()

    assert statuses(run) == {"a": "sleeping"}
    assert available_in_s() > 990


def test_a_wait_that_begins_late_is_not_cut_short_by_the_runs_start(submit, worker):
    run = submit([wait(seconds=1000)], start_at=datetime.now(UTC) + timedelta(hours=1))
    wake_now(run)
    sweeps.wake_sleepers()

    worker.work()

    assert (statuses(run), run.steps.get().reason) == ({"a": "sleeping"}, "timer")
    assert available_in_s() > 990


def test_while_one_branch_sleeps_the_others_go_on(submit, worker):
    run = submit([wait(seconds=1000), echo("b"), echo("c", depends_on=["b"])])

    worker.work()

    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("running", {"a": "sleeping", "b": "succeeded", "c": "succeeded"})


def test_a_lane_whose_bell_was_lost_is_found(submit):
    submit([echo("a")]), submit([{"key": "b", "tool": "test.far"}])
    assert sweeps.due_lanes(older_than_s=3600) == []

    sql("UPDATE runs_step SET ready_at = ready_at - interval '2 hours' WHERE lane = 'network'")

    assert sweeps.due_lanes(older_than_s=3600) == ["network"]
    assert sorted(sweeps.due_lanes(older_than_s=0)) == ["compute", "network"]


# --- A run's deadline -------------------------------------------------------------------
ASK = {"key": "a", "kind": "ask", "objective": "Who?"}


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (wait(seconds=1000), "sleeping"),
        ({"key": "a", "tool": "test.flaky"}, "sleeping"),
        (ASK, "waiting"),
        ({"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}, "waiting"),
        ({"key": "a", "tool": "test.wire", "arguments": {"to": "x"}}, "waiting"),
        ({"key": "a", "kind": "delegate", "arguments": {"plan": {"steps": [ASK]}}}, "waiting"),
        ({"key": "a", "tool": "test.nobody"}, "paused"),
        ({"key": "a", "tool": "test.nobody"}, "replan"),
    ],
    ids=["timer", "retry", "input", "outcome_unknown", "approval", "child", "paused", "replan"],
)
def test_a_deadline_ends_what_sleeps_or_waits(submit, worker, settings, step, state):
    settings.RETRY_BASE_S = settings.RETRY_CAP_S = 3600.0
    step = {**step, "tool": "test.echo"} if step.get("tool") == "test.nobody" else step
    run = submit([step, echo("b", depends_on=["a"])], goal="do", deadline_s=3600)
    if state == "paused":
        control.pause(run)
    elif state == "replan":
        control.message(run, "Otherwise.", replan=True)
    else:
        worker.work()
        assert statuses(run)["a"] == state
    sweeps.end_past_deadline()
    assert not Run.objects.get(pk=run.pk).finished_at  # not a moment early
    sql("UPDATE runs_run SET deadline_at = clock_timestamp() - interval '1 second' WHERE id = %s", run.pk)

    sweeps.end_past_deadline()

    run.refresh_from_db()
    assert (run.status, run.reason, run.error["code"]) == ("failed", "deadline", "deadline_exceeded")
    assert set(statuses(run).values()) == {"cancelled"}
    sweeps.cancel_orphans()
    assert not Run.objects.filter(finished_at=None).exists()
