"""Steps are taken from workers that are gone, and only from those."""

import subprocess
import sys
import time

import pytest

from agentsys.core import procs
from agentsys.core.errors import LeaseLost
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs import control, handlers, leases, recorded
from agentsys.runs.store import claims, moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import expire, photograph, sql, value
from tests.support.threads import background, in_parallel, until
from tests.support.worker import events, statuses

HELD = claims.Beat(cancelled=False, renewed=True)


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture(autouse=True)
def _short_leases(settings):
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that


@pytest.mark.promise("P8")
def test_an_expired_lease_is_taken_and_the_step_runs_again(submit, worker, step_of):
    run = submit([echo("a")])
    claim("compute", owner="gone")
    expire(run)

    assert sweeps.reap_expired() == ["compute"]
    step = step_of(run, "a")
    assert (step.status, step.crashes, step.failures, step.attempt) == ("ready", 1, 0, 1)
    assert run.attempts.get().outcome == "crashed"
    worker.finish(run)

    assert (run.status, events(run).count("step.released a")) == ("succeeded", 1)


def test_a_lease_that_holds_is_left_alone(submit):
    submit([echo("a")])
    claim("compute", owner="w")
    before = photograph()

    assert sweeps.reap_expired() == []
    assert sweeps.reap_dead(lambda owner: False) == []

    assert photograph() == before


def test_a_heartbeat_that_slips_in_wins(submit, settings):
    """It comes after the reaper has seen the expired lease and before it has the run's lock."""
    settings.LEASE_S = 30.0
    run = submit([echo("a")])
    held = claim("compute", owner="slow")
    expire(run)
    assert claims.heartbeat([(held.id, held.claim_token)]) == {held.claim_token: HELD}

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why="lease")) == []

    assert statuses(run) == {"a": "running"}
    complete(held, Result(1))


def test_a_heartbeat_waits_for_no_locked_row_and_hears_the_next_time_what_became_of_it(submit):
    run, other = submit([echo("a")]), submit([echo("a")])
    held, second = claim("compute", owner="slow"), claim("compute", owner="slow")
    expire(run)
    expire(other)
    both = [(held.id, held.claim_token), (second.id, second.claim_token)]

    with background() as start, moves.locked(held.run_id):
        sql("SELECT 1 FROM runs_step WHERE id = %s FOR NO KEY UPDATE", held.id)
        beaten = start(lambda: claims.heartbeat(both)).result()
        sql("UPDATE runs_step SET status = 'ready', lease_expires_at = NULL WHERE id = %s", held.id)

    assert beaten == {held.claim_token: claims.Beat(cancelled=False, renewed=False), second.claim_token: HELD}
    assert claims.heartbeat(both) == {second.claim_token: HELD}


def test_a_heartbeat_renews_from_now_even_after_the_lease_has_run_out(submit, settings):
    settings.LEASE_S = 30.0
    run = submit([echo("a")])
    held = claim("compute", owner="slow")
    expire(run)

    assert claims.heartbeat([(held.id, held.claim_token)]) == {held.claim_token: HELD}

    assert value("SELECT lease_expires_at > clock_timestamp() + interval '25 seconds' FROM runs_step")
    assert sweeps.reap_expired() == []


def test_no_heartbeat_of_a_finished_or_foreign_step_brings_anything_back(submit):
    run = submit([echo("a"), echo("b")])
    first, second = claim("compute", owner="w"), claim("compute", owner="w")
    complete(first, Result(1), claim_next=False)
    before = photograph()

    assert claims.heartbeat([(first.id, first.claim_token), (second.id, first.claim_token)]) == {}
    assert claims.heartbeat([]) == {}

    assert photograph() == before
    assert statuses(run)["b"] == "running"


def test_after_a_restart_of_postgresql_nobody_is_judged_for_a_whole_lease(submit, settings):
    run = submit([echo("a")])
    claim("compute", owner="w")
    expire(run)
    settings.LEASE_S = 7 * 86_400.0  # PostgreSQL has not been up for so long

    assert sweeps.reap_expired() == []

    settings.LEASE_S = 1.0
    assert sweeps.reap_expired() == ["compute"]


def test_a_sweeper_judges_only_after_a_lease_of_unbroken_contact(submit, settings, no_bell):
    run = submit([echo("a")])
    claim("compute", owner="another-host:boot:1:1")
    expire(run)
    settings.LEASE_S = 3600.0
    sweeper = Sweeper()

    sweeper.tick()
    assert statuses(run) == {"a": "running"}

    settings.LEASE_S = 0.01
    until(lambda: sweeper.tick() is None and statuses(run) == {"a": "ready"})


def test_a_sweeper_that_lost_contact_waits_again(submit, no_bell):
    run = submit([echo("a")])
    claim("compute", owner="another-host:boot:1:1")
    expire(run)
    sweeper = Sweeper(_contact_since=time.monotonic() - 100)
    _kill_own_connection()

    sweeper.tick()  # its first job finds the connection dead

    assert statuses(run) == {"a": "running"}
    sweeper = Sweeper(_contact_since=time.monotonic() - 100)
    sweeper.tick()
    assert statuses(run) == {"a": "ready"}


def _kill_own_connection():
    pid = value("SELECT pg_backend_pid()")
    with background() as start:
        start(lambda: value("SELECT pg_terminate_backend(%s, 10000)", pid)).result()


def test_dead_processes_lose_their_steps_at_once(submit):
    dead, alive = submit([echo("a"), echo("b")]), submit([echo("c")])
    claim("compute", owner="host:dead"), claim("compute", owner="host:dead"), claim("compute", owner="host:alive")

    assert sweeps.reap_dead(lambda owner: owner == "host:dead") == ["compute", "compute"]

    assert (statuses(dead), statuses(alive)) == ({"a": "ready", "b": "ready"}, {"c": "running"})


def test_a_process_of_this_host_that_has_ended_loses_its_steps_without_waiting_for_the_lease(submit, settings, no_bell):
    settings.LEASE_S = 3600.0
    gone, here = submit([echo("a")]), submit([echo("b")])
    code = "from agentsys.core import procs; print(procs.own_name())"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    claim("compute", owner=name), claim("compute", owner=procs.own_name())

    Sweeper().tick()

    assert (statuses(gone), statuses(here)) == ({"a": "ready"}, {"b": "running"})


@pytest.mark.promise("P11")
def test_three_crashes_are_poison(submit):
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    for n in range(1, 4):
        assert claim("compute", owner="w").attempt == n
        sweeps.reap_dead(lambda owner: True)

    run.refresh_from_db()
    step = run.steps.get(key="a")
    assert (run.status, run.reason, statuses(run)) == ("failed", "poison", {"a": "failed", "b": "cancelled"})
    assert (step.crashes, step.failures, step.reason) == (3, 0, "poison")
    assert [a.outcome for a in run.attempts.all()] == ["crashed"] * 3


def test_a_poisonous_step_says_what_it_did_to_whom(submit, worker):
    run = submit([echo("a"), {"key": "b", "tool": "test.echo", "arguments": {"value": "${a}"}}])
    complete(claim("compute", owner="w0"), Result("x"), claim_next=False)
    for name in ("w1", "w2"):
        claim("compute", owner=name)
        sweeps.reap_dead(lambda owner: True)
    claim("compute", owner="w3")
    expire(run)
    sweeps.reap_expired()

    run.refresh_from_db()
    error = run.steps.get(key="b").error
    assert (run.reason, run.error) == ("poison", error)
    assert (error["code"], error["data"]["tool"]) == ("poison", "test.echo")
    assert "retry the run" in error["message"]
    assert error["data"]["arguments_digest"] == recorded.digest({"value": "x"})
    crashes = error["data"]["crashes"]
    assert [(one["attempt"], one["worker"], one["why"], one["ended"]) for one in crashes] == [
        (1, "w1", "dead", None),
        (2, "w2", "dead", None),
        (3, "w3", "lease", None),
    ]
    assert all(one["started_at"] < one["ended_at"] for one in crashes)
    lost = run.attempts.filter(step__key="b").order_by("number")
    assert {one.error["code"] for one in lost} == {"worker_lost"}

    again, _ = control.retry(run)
    assert worker.finish(again).result == {"b": "x"}


def test_a_poisonous_step_may_be_passed_over(submit, worker):
    run = submit([echo("a", on_error="continue"), echo("b", depends_on=["a"], if_failed="null")])
    for _ in range(3):
        claim("compute", owner="w")
        sweeps.reap_dead(lambda owner: True)

    worker.finish(run)

    assert (run.status, statuses(run)) == ("succeeded", {"a": "failed", "b": "succeeded"})


@pytest.mark.promise("P14")
def test_released_steps_are_not_charged_however_often(submit, worker):
    run = submit([echo("a", max_attempts=1)])
    for n in range(1, 8):
        one = claim("compute", owner="w")
        assert one.attempt == n
        assert list(moves.give_back(one.id, run.pk, one.claim_token, why="released")) == ["compute"]

    step = run.steps.get()
    assert (step.status, step.crashes, step.failures) == ("ready", 0, 0)
    assert {a.outcome for a in run.attempts.all()} == {"released"}
    worker.finish(run)
    assert run.status == "succeeded"


def test_many_reapers_take_a_step_once(submit):
    for _ in range(10):
        run = submit([echo("a")])
        one = claim("compute", owner="gone")
        expire(run)

        taken = in_parallel(*[sweeps.reap_expired] * 4, *[lambda: sweeps.reap_dead(lambda owner: owner == "gone")] * 2)

        assert sorted(taken) == [[]] * 5 + [["compute"]]
        assert (run.steps.get().crashes, run.attempts.count()) == (1, 1)
        complete(claim("compute", owner="next"), Result(1))
        with pytest.raises(LeaseLost):
            complete(one, Result(2))


@pytest.mark.violates
def test_one_step_that_cannot_be_taken_does_not_keep_the_others_with_the_dead(submit):
    broken, sound = submit([echo("a")]), submit([echo("b")])
    claim("compute", owner="gone"), claim("compute", owner="gone")
    expire(broken), expire(sound)
    sql("UPDATE runs_step SET crashes = 2 WHERE run_id = %s", broken.pk)
    sql("UPDATE runs_run SET open_steps = 0, active_steps = 0 WHERE id = %s", broken.pk)

    assert sweeps.reap_expired() == ["compute"]

    assert (statuses(broken), statuses(sound)) == ({"a": "running"}, {"b": "ready"})


def test_a_worker_finds_the_claims_whose_answers_it_lost(submit):
    run = submit([echo("a"), echo("b")])
    known, lost = claim("compute", owner="me"), claim("compute", owner="me")
    sql("UPDATE runs_step SET claimed_at = claimed_at - interval '10 seconds'")
    held = leases.hold(known)

    leases.beat("me")
    leases.drop(held)

    assert statuses(run) == {"a": "running", "b": "ready"}
    assert (run.attempts.get().pk, run.attempts.get().outcome) == (lost.claim_token, "released")


def test_a_worker_that_ends_gives_everything_back(submit, worker, monkeypatch):
    run = submit([echo("a"), echo("b")])
    real, ended = handlers.HANDLERS["tool"], []

    def ends_in_the_middle(held):
        if ended:
            return real(held)
        ended.append(leases.release_all("worker-a"))
        return Result("late")

    monkeypatch.setitem(handlers.HANDLERS, "tool", ends_in_the_middle)
    worker.finish(run)

    assert (ended, leases.held()) == ([1], [])
    assert (run.status, run.result) == ("succeeded", {"a": None, "b": None})
    assert sorted(a.outcome for a in run.attempts.all()) == ["released", "succeeded", "succeeded"]


def test_who_asks_is_told_of_each_attempt_that_was_taken_once_and_of_no_other(submit):
    runs = {name: submit([echo(name)]) for name in ("dead", "slow", "alive")}
    taken, expired, _ = (claim("compute", owner=name) for name in runs)
    expire(runs["slow"])
    told = []

    for _ in range(2):
        sweeps.reap_dead(lambda owner: owner == "dead", lost=lambda *what: told.append(what))
        sweeps.reap_expired(lost=lambda *what: told.append(what))
    moves.give_back(taken.id, taken.run_id, taken.claim_token, why="dead", lost=lambda *what: told.append(what))

    assert told == [(str(taken.claim_token), "dead", "dead"), (str(expired.claim_token), "lease", "slow")]
    assert statuses(runs["alive"]) == {"alive": "running"}
