"""ready -> running: each step once, whoever asks at the same time and whatever becomes of the answer."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, transaction

from agentsys.core.errors import ToolFailed, ToolUnavailable
from agentsys.runs.store import claims, moves, sweeps, verdicts
from agentsys.runs.store.change import locked
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.outages import lose_answer
from tests.support.rows import photograph, sql, value, wake_now
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses

THREADS = 8


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def all_claims(owner):
    """Claim until nothing is due."""
    found = []
    while one := claim("compute", owner=owner):
        found.append(one)
    return found


def test_a_claim_takes_the_lease_and_counts_the_attempt(submit, step_of, settings):
    run = submit([echo()])

    got = claim("compute", owner="w")

    step = step_of(run, "a")
    assert (got.id, got.run_id, got.key, got.attempt, got.failures) == (step.pk, run.pk, "a", 1, 0)
    assert (step.status, step.claim_token, step.lease_owner) == ("running", got.claim_token, "w")
    left_s = value("SELECT extract(epoch FROM lease_expires_at - clock_timestamp()) FROM runs_step")
    assert settings.LEASE_S - 5 < left_s <= settings.LEASE_S


@pytest.mark.promise("P4")
def test_eight_workers_claim_fifty_steps_each_once(submit):
    steps = {submit([echo()]).steps.get().pk for _ in range(50)}

    got = in_parallel(*(lambda n=n: all_claims(f"w{n}") for n in range(THREADS)))
    got.append(all_claims("last"))  # what all of them skipped because another held it just then

    claimed = [one for some in got for one in some]
    assert Counter(one.id for one in claimed) == Counter(steps)
    assert len({one.claim_token for one in claimed}) == 50


def test_eight_workers_claim_the_parallel_steps_of_one_run_each_once(submit):
    run = submit([echo(f"s{n}") for n in range(40)])

    got = in_parallel(*(lambda n=n: all_claims(f"w{n}") for n in range(THREADS)))
    got.append(all_claims("last"))

    assert Counter(one.key for some in got for one in some) == Counter(f"s{n}" for n in range(40))
    told = events(run)
    assert told[:2] == ["run.queued", "run.running"]
    assert sorted(told[2:]) == sorted(f"step.started s{n}" for n in range(40))


def test_a_claim_waits_for_no_lock_and_takes_another_run_instead(submit):
    busy, free = submit([echo("a")]), submit([echo("b")])

    with locked(busy.pk):
        assert in_parallel(lambda: claim("compute", owner="w").key) == ["b"]
        assert in_parallel(lambda: claim("compute", owner="w")) == [None]

    assert (statuses(busy), statuses(free)) == ({"a": "ready"}, {"b": "running"})


def test_a_claim_of_nothing_changes_nothing(submit, worker):
    submit([echo("a"), echo("b", depends_on=["a"])])
    worker.finish(submit([echo()]))
    claim("compute", owner="w")
    before = photograph()

    for lane in ("compute", "network", "model", "system", "", "no such lane"):
        assert claim(lane, owner="w") is None

    assert photograph() == before


def test_only_steps_of_the_lane_are_claimed(submit):
    submit([echo("a"), {"key": "b", "tool": "test.far"}])

    assert claim("network", owner="w").key == "b"
    assert claim("network", owner="w") is None
    assert claim("compute", owner="w").key == "a"


def test_the_run_starts_with_its_first_claim_only(submit):
    run = submit([echo("a"), echo("b")])

    claim("compute", owner="w")
    run.refresh_from_db()
    started_at = run.started_at
    claim("compute", owner="w")

    run.refresh_from_db()
    assert (run.status, run.reason, run.started_at) == ("running", "", started_at)
    assert events(run) == ["run.queued", "run.running", "step.started a", "step.started b"]


def test_oldest_first_but_a_higher_priority_sooner(submit):
    runs = {submit([echo()], priority=p).pk: p for p in (0, -3, 10, 0, 3)}

    order = [one.run_id for one in all_claims("w")]

    assert [runs[pk] for pk in order] == [10, 3, 0, 0, -3]
    zeros = [pk for pk in order if runs[pk] == 0]
    assert zeros == sorted(zeros)  # ids grow with time


@pytest.mark.parametrize("by", ["completion", "failure", "word", "retry"])
def test_whatever_makes_a_step_ready_keeps_its_runs_priority(submit, by):
    first = {"key": "a", "tool": "test.charge"} if by == "word" else echo("a", on_error="continue", max_attempts=2)
    steps = [first, *([] if by in ("word", "retry") else [echo("b", depends_on=["a"], if_failed="null")])]
    urgent = submit(steps, priority=5)
    held = claim("compute", owner="w")
    ordinary = submit([echo("c")])
    if by == "completion":
        complete(held, Result(1), claim_next=False)
    elif by == "failure":
        moves.fail(held, moves.Fault(ToolFailed("x"), "tool"))
    elif by == "retry":
        moves.fail(held, moves.Fault(ToolUnavailable("x"), "tool"))
        wake_now(urgent)
        sweeps.wake_sleepers()
    else:
        assert claims.open_gate(held)
        moves.give_back(held.id, urgent.pk, held.claim_token, why="dead")
        verdicts.resolve(urgent.pk, "a", outcome="not_done")

    assert [one.run_id for one in all_claims("w")] == [urgent.pk, ordinary.pk]


def test_a_claim_whose_answer_was_lost_is_found_by_its_token(submit, monkeypatch, step_of):
    run = submit([echo()])
    sent = lose_answer(monkeypatch, "claim")

    got = claim("compute", owner="w")

    assert sent == ["claim"]
    assert (got.claim_token, got.attempt) == (step_of(run, "a").claim_token, 1)
    assert events(run).count("step.started a") == 1


def test_a_claim_that_never_arrived_leaves_the_step_to_others(submit, monkeypatch):
    run = submit([echo()])
    lose_answer(monkeypatch, "claim", executed=False)

    got = claim("compute", owner="w") or claim("compute", owner="w")

    assert (got.attempt, statuses(run)) == (1, {"a": "running"})
    assert events(run).count("step.started a") == 1


def test_a_database_that_stays_away_is_told_to_the_caller(submit, monkeypatch, settings):
    submit([echo()])
    settings.LEASE_S = 0.3
    lose_answer(monkeypatch, "claim", executed=False)
    lose_answer(monkeypatch, "claimed_by_tokens", executed=False, times=100)
    before = photograph()

    with pytest.raises(OperationalError):
        claim("compute", owner="w")

    assert photograph() == before


def test_a_run_with_a_start_in_the_future_waits_for_it_and_keeps_its_priority(submit):
    later = submit([echo("a")], start_at=datetime.now(UTC) + timedelta(hours=1), priority=5)
    now = submit([echo("b")])
    assert (later.status, later.reason, statuses(later)) == ("queued", "start_at", {"a": "sleeping"})
    assert [one.key for one in all_claims("w")] == ["b"]
    assert sweeps.wake_sleepers() == []

    wake_now(later)
    other = submit([echo("c")])
    assert sweeps.wake_sleepers() == ["compute"]

    assert [one.key for one in all_claims("w")] == ["a", "c"]
    later.refresh_from_db()
    assert (later.status, later.reason) == ("running", "")
    assert now.pk != other.pk


def test_a_start_in_the_past_is_now(submit):
    run = submit([echo()], start_at=datetime.now(UTC) - timedelta(days=400))

    assert (run.status, run.reason) == ("queued", "")
    assert claim("compute", owner="w").run_id == run.pk


def test_a_start_at_this_very_moment_is_one_or_the_other(submit, worker):
    for microseconds in range(0, 3000, 150):
        run = submit([echo()], start_at=datetime.now(UTC) + timedelta(microseconds=microseconds))
        worker.finish(run)
        assert run.status == "succeeded"


@pytest.mark.promise("P15")
def test_a_step_of_a_stopping_run_is_never_claimed(submit):
    run = submit([echo("a"), echo("b")])
    claim("compute", owner="w")
    with transaction.atomic():
        sql("UPDATE runs_run SET status = 'cancelling' WHERE id = %s", run.pk)
        sql("UPDATE runs_step SET status = 'cancelled' WHERE run_id = %s AND status = 'ready'", run.pk)
        sql("UPDATE runs_run SET open_steps = 1, active_steps = 1 WHERE id = %s", run.pk)

        assert in_parallel(lambda: claim("compute", owner="w")) == [None]

    assert claim("compute", owner="w") is None
    assert sweeps.recount_slots() == 1  # the step was cancelled past the engine


def test_claims_that_this_process_does_not_know_of_are_found(submit):
    submit([echo("a"), echo("b"), echo("c")])
    known, lost, fresh = (claim("compute", owner="w") for _ in range(3))
    sql("UPDATE runs_step SET claimed_at = claimed_at - interval '6 seconds' WHERE id <> %s", fresh.id)
    claim("compute", owner="another")

    assert [row["id"] for row in claims.orphaned("w", [known.claim_token])] == [lost.id]
    assert claims.orphaned("other", []) == []
