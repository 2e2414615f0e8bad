"""A live run that nothing moves is a defect of ours: an alarm, and the run still ends."""

import logging

import pytest

from agentsys.runs import verify
from agentsys.runs.store import sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import photograph, sql, unguarded
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def aged(run):
    """Not just made: what was just made may still be on its way."""
    sql("UPDATE runs_run SET created_at = created_at - interval '1 minute' WHERE id = %s", run.pk)
    return run


def wrong():
    return [finding.name for finding in verify.check() if finding.violations]


def test_runs_that_move_or_wait_are_left_alone(submit, worker, caplog):
    aged(submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}]))
    aged(submit([{"key": "c", "tool": "test.charge", "arguments": {"how": "unknown"}}]))
    worker.finish(aged(submit([echo()])))
    worker.work()
    aged(submit([echo("a"), echo("b", depends_on=["a"])]))
    claim("compute", owner="w")
    aged(submit([echo()]))
    before = photograph()

    assert sweeps.repair_stuck() == 0

    assert photograph() == before
    assert caplog.text == ""


def test_a_lost_decrement_of_the_run_is_found_and_the_run_ends_well(submit, caplog):
    run = aged(submit([echo("a", 7)]))
    held = claim("compute", owner="w")
    sql("UPDATE runs_run SET open_steps = 2 WHERE id = %s", run.pk)
    complete(held, Result(7))
    run.refresh_from_db()
    assert (run.status, run.open_steps, wrong()) == ("waiting", 1, ["I8", "I9"])

    with caplog.at_level(logging.ERROR):
        assert sweeps.repair_stuck() == 1

    run.refresh_from_db()
    assert (run.status, run.reason, run.result, wrong()) == ("succeeded", "complete", {"a": 7}, [])
    assert str(run.pk) in caplog.text
    assert sweeps.repair_stuck() == 0


def test_a_lost_join_fails_the_run_and_says_that_it_may_be_retried(submit):
    run = aged(submit([echo("a"), echo("b", depends_on=["a"])]))
    sql("UPDATE runs_step SET deps_left = 2 WHERE run_id = %s AND key = 'b'", run.pk)
    complete(claim("compute", owner="w"), Result(1))
    assert wrong() == ["I4", "I9"]

    assert sweeps.repair_stuck() == 1

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("failed", "error", {"a": "succeeded", "b": "cancelled"})
    assert "retry" in run.error["message"]
    assert events(run)[-3:] == ["run.cancelling", "step.cancelled b", "run.failed"]


def test_a_run_that_waits_and_does_not_know_it_is_told(submit, worker):
    run = aged(submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}]))
    worker.work()
    sql("UPDATE runs_run SET status = 'running', reason = '', active_steps = 1 WHERE id = %s", run.pk)
    assert wrong() == ["I8", "I9"]

    assert sweeps.repair_stuck() == 1

    run.refresh_from_db()
    assert (run.status, run.reason, run.active_steps, wrong()) == ("waiting", "outcome_unknown", 0, [])


def test_a_run_that_waits_for_nobody_is_failed(submit, worker):
    run = aged(submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}, echo("b")]))
    worker.work()
    with unguarded():
        sql("UPDATE runs_step SET status = 'blocked', deps_left = 1, reason = '' WHERE run_id = %s", run.pk)
        sql("UPDATE runs_run SET open_steps = 2, steps_done = 0 WHERE id = %s", run.pk)

    assert sweeps.repair_stuck() == 1

    run.refresh_from_db()
    assert (run.status, set(statuses(run).values())) == ("failed", {"cancelled"})


@pytest.mark.parametrize("left", ["blocked", "waiting"])
def test_a_stopping_run_with_something_left_over_ends(submit, left):
    run = aged(submit([echo("a")]))
    with unguarded():
        parents = int(left == "blocked")
        sql("UPDATE runs_step SET status = %s, deps_left = %s WHERE run_id = %s", left, parents, run.pk)
        sql(
            "UPDATE runs_run SET status = 'cancelling', stop_reason = 'user', active_steps = 0, cancel_at = now()"
            " WHERE id = %s",
            run.pk,
        )

    assert sweeps.repair_stuck() == 1

    run.refresh_from_db()
    assert (run.status, run.reason, statuses(run)) == ("cancelled", "user", {"a": "cancelled"})
    sql("DELETE FROM runs_run")  # its step was put there without its joins
    sweeps.recount_slots()


def test_what_was_just_made_is_not_judged(submit):
    run = submit([echo("a")])
    held = claim("compute", owner="w")
    sql("UPDATE runs_run SET open_steps = 2 WHERE id = %s", run.pk)
    complete(held, Result(1))

    assert sweeps.repair_stuck() == 0

    aged(run)
    assert sweeps.repair_stuck() == 1


def test_many_who_repair_at_once_do_it_once(submit):
    run = aged(submit([echo("a")]))
    held = claim("compute", owner="w")
    sql("UPDATE runs_run SET open_steps = 2 WHERE id = %s", run.pk)
    complete(held, Result(1))

    in_parallel(*[sweeps.repair_stuck] * 6)

    run.refresh_from_db()
    assert (run.status, events(run).count("run.succeeded")) == ("succeeded", 1)
