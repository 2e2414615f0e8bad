"""A worker whose lease was taken changes nothing, whatever it still tries."""

import logging

import pytest
from django.db import transaction

from agentsys.core.errors import LeaseLost, ToolFailed, ToolUnavailable
from agentsys.runs import files, handlers
from agentsys.runs.store import claims, expansion, moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from agentsys.runs.store.create import planning_step
from tests.support.rows import expire, photograph, sql
from tests.support.threads import background, in_parallel, until, waiting_for_locks
from tests.support.worker import events


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture(autouse=True)
def _short_leases(settings):
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that


@pytest.fixture
def taken(submit):
    """A claim that its worker still believes in, and the claim of the one who has the step now."""
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    stale = claim("compute", owner="slow")
    expire(run)
    assert sweeps.reap_expired() == ["compute"]
    fresh = claim("compute", owner="next")
    assert (stale.id, stale.attempt, fresh.attempt) == (fresh.id, 1, 2)
    return run, stale, fresh


STALE_WRITES = {
    "complete": lambda one: complete(one, Result("late")),
    "complete and go on": lambda one: complete(one, Result("late"), claim_next=True),
    "fail for good": lambda one: moves.fail(one, moves.Fault(ToolFailed("late"), "tool")),
    "fail and retry": lambda one: moves.fail(one, moves.Fault(ToolUnavailable("late"), "tool")),
    "sleep": lambda one: moves.sleep(one, delay_s=0),
    "expand": lambda one: expansion.expand(one, Result("late"), planning_step()),
    "write a file": lambda one: files.StepFiles(one).write("late.txt", "late"),
}


@pytest.mark.promise("P3")
@pytest.mark.parametrize("write", STALE_WRITES.values(), ids=STALE_WRITES)
def test_a_stale_worker_is_refused_and_not_one_row_changes(taken, write):
    _, stale, _ = taken
    before = photograph()

    with pytest.raises(LeaseLost):
        write(stale)

    assert photograph() == before


@pytest.mark.parametrize("write", STALE_WRITES.values(), ids=STALE_WRITES)
def test_the_same_after_the_new_holder_has_finished(taken, write):
    _, stale, fresh = taken
    complete(fresh, Result("good"), claim_next=False)
    before = photograph()

    with pytest.raises(LeaseLost):
        write(stale)

    assert photograph() == before


@pytest.mark.parametrize("write", STALE_WRITES.values(), ids=STALE_WRITES)
def test_the_same_while_nobody_holds_the_step(submit, write):
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    stale = claim("compute", owner="slow")
    expire(run)
    sweeps.reap_expired()
    before = photograph()

    with pytest.raises(LeaseLost):
        write(stale)

    assert photograph() == before


@pytest.mark.parametrize("why", ["lease", "dead", "released"])
def test_giving_back_with_an_old_token_takes_nothing_from_the_new_holder(taken, why):
    run, stale, _ = taken
    expire(run)
    before = photograph()

    assert list(moves.give_back(stale.id, stale.run_id, stale.claim_token, why=why)) == []

    assert photograph() == before


def test_a_stale_worker_hears_of_it_by_the_heartbeat_and_renews_nothing(taken):
    _, stale, fresh = taken
    before = photograph()

    assert claims.heartbeat([(stale.id, stale.claim_token)]) == {}
    assert photograph() == before

    assert claims.heartbeat([(stale.id, stale.claim_token), (fresh.id, fresh.claim_token)]) == {
        fresh.claim_token: claims.Beat(cancelled=False, renewed=True)
    }


def test_a_stale_worker_opens_no_gate(submit, settings):
    run = submit([{"key": "a", "tool": "test.charge"}])
    stale = claim("compute", owner="slow")
    expire(run)
    sweeps.reap_expired()
    fresh = claim("compute", owner="next")
    before = photograph()

    assert claims.open_gate(stale) is False
    assert photograph() == before

    assert claims.open_gate(fresh) is True


def test_a_counter_that_went_back_does_not_open_the_fence(taken):
    """After a restore the attempt may be the same again; the token cannot."""
    _, stale, fresh = taken
    sql("UPDATE runs_step SET attempt = %s WHERE id = %s", stale.attempt, fresh.id)
    before = photograph()

    with pytest.raises(LeaseLost):
        complete(stale, Result("late"))

    assert photograph() == before
    sql("UPDATE runs_step SET attempt = %s WHERE id = %s", fresh.attempt, fresh.id)


def test_every_attempt_is_written_down_with_what_became_of_it(taken, worker):
    run, stale, fresh = taken
    complete(fresh, Result("good"), claim_next=False)
    worker.finish(run)

    kept = {a.pk: (a.number, a.worker, a.outcome) for a in run.attempts.filter(step__key="a")}
    assert kept == {
        stale.claim_token: (1, "slow", "crashed"),
        fresh.claim_token: (2, "next", "succeeded"),
    }
    assert events(run).count("step.succeeded a") == 1


def test_a_late_result_is_logged_and_discarded(submit, worker, monkeypatch, caplog, settings):
    run = submit([echo("a")])

    def slow(held):
        expire(run)
        sweeps.reap_expired()
        return Result("late")

    monkeypatch.setitem(handlers.HANDLERS, "tool", slow)
    with caplog.at_level(logging.INFO, logger="agentsys"):
        worker.drain("compute")

    assert worker.watcher.attempts[0] == ("execute", "a", False)
    assert "fenced" in caplog.text
    assert str(run.pk) in caplog.text


@pytest.mark.promise("P4")
def test_of_a_worker_and_the_reaper_at_the_same_moment_one_wins(submit, worker):
    for _ in range(20):
        run = submit([echo("a")])
        mine = claim("compute", owner="slow")
        expire(run)

        won, lanes = in_parallel(lambda mine=mine: _completes(mine), sweeps.reap_expired)

        run.refresh_from_db()
        step = run.steps.get()
        assert (won, list(lanes)) in [(True, []), (False, ["compute"])]
        assert (step.status, run.status) == (("succeeded", "succeeded") if won else ("ready", "running"))
        assert run.attempts.count() == 1
        worker.finish(run)


def _completes(one):
    try:
        complete(one, Result("x"), claim_next=False)
    except LeaseLost:
        return False
    return True


def test_a_stale_file_does_not_replace_the_new_holders(taken):
    """Also not when both write at the same moment."""
    run, stale, fresh = taken
    files.StepFiles(fresh).write("f", "good")

    for _ in range(5):
        with pytest.raises(LeaseLost):
            in_parallel(
                lambda: files.StepFiles(stale).write("f", "late"), lambda: files.StepFiles(fresh).write("f", "good")
            )

    assert files.read(run.pk, "f") == b"good"


def test_a_lease_is_not_taken_in_the_middle_of_a_write(submit):
    """A write that waits for another writer of the same name must not land after its lease has gone."""
    run = submit([echo("a")], files={"f": b"first"})
    mine = claim("compute", owner="slow")

    with background() as start:
        with transaction.atomic():
            sql("SELECT 1 FROM runs_runfile WHERE name = 'f' FOR UPDATE")
            written = start(lambda: files.StepFiles(mine).write("f", "in time"))
            until(lambda: waiting_for_locks() == 1)
            given = start(lambda: moves.give_back(mine.id, run.pk, mine.claim_token, why="dead"))
            until(lambda: given.done() or waiting_for_locks() == 2)
            too_early = given.done()
        written.result(), given.result()

    assert not too_early
    assert files.read(run.pk, "f") == b"in time"
    assert run.attempts.get().outcome == "crashed"
