"""The connection dies while a move is written: afterwards it has happened once, or not at all and is done again."""

import pytest
from django.db import OperationalError, connection, transaction

from agentsys.core.errors import LeaseLost, ToolFailed, ToolUnavailable
from agentsys.runs import handlers, services
from agentsys.runs.store import expansion, moves
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from agentsys.runs.store.create import planning_step
from tests.support import tools
from tests.support.outages import lose_answer, lose_commit
from tests.support.rows import photograph, sql, value
from tests.support.threads import background, until, waiting_for_locks
from tests.support.worker import events, statuses


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture
def chain(submit):
    return submit([echo("a"), echo("b", depends_on=["a"])])


@pytest.mark.promise("P2")
@pytest.mark.parametrize("executed", [True, False])
def test_a_completion_whose_answer_is_lost_happens_once_and_goes_on_with_the_child(chain, monkeypatch, executed):
    first = claim("compute", owner="w")
    sent = lose_answer(monkeypatch, "complete", executed=executed)

    done = complete(first, Result(1))

    assert len(sent) == 2
    assert (done.next.key, done.next.attempt) == ("b", 1)
    assert statuses(chain) == {"a": "succeeded", "b": "running"}
    assert events(chain)[3:] == ["step.succeeded a", "step.started b"]
    assert chain.attempts.count() == 1


@pytest.mark.promise("P2")
def test_a_childs_end_whose_answer_is_lost_ends_its_parents_step_at_once(submit, worker, monkeypatch):
    plan = {"steps": [{"key": "x", "tool": "test.echo", "arguments": {"value": 1}}]}
    run = submit([{"key": "d", "kind": "delegate", "arguments": {"plan": plan}}])
    worker.drain("system")
    sent = lose_answer(monkeypatch, "complete")

    worker.drain("compute")

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"d": {"x": 1}})
    assert len(sent) == 2


@pytest.mark.promise("P13")
def test_a_completion_whose_answer_is_lost_gives_its_place_to_a_waiting_step_at_once(submit, monkeypatch):
    run = submit([{"key": key, "tool": "test.echo"} for key in "abc"], limits={"parallel": 1})
    first = claim("compute", owner="w")
    lose_answer(monkeypatch, "complete")

    complete(first, Result(1), claim_next=False)

    assert statuses(run) == {"a": "succeeded", "b": "ready", "c": "queued"}
    services.cancel(run)


def test_the_last_completion_whose_answer_is_lost_ends_the_run_once(submit, monkeypatch):
    run = submit([echo("a")])
    first = claim("compute", owner="w")
    lose_answer(monkeypatch, "complete", times=3)

    assert complete(first, Result(7)).next is None

    run.refresh_from_db()
    assert (run.status, run.result, run.steps_done) == ("succeeded", {"a": 7}, 1)
    assert events(run).count("run.succeeded") == 1


def test_a_backend_killed_in_the_middle_of_a_completion_is_replaced(chain):
    """A real pg_terminate_backend, while the statement waits for the run's lock."""
    first = claim("compute", owner="w")

    with background() as start:
        with transaction.atomic():
            sql("SELECT 1 FROM runs_run WHERE id = %s FOR NO KEY UPDATE", chain.pk)
            completed = start(lambda: complete(first, Result(1)))
            until(lambda: waiting_for_locks() == 1)
            _kill_waiting()
        done = completed.result()

    assert done.next.key == "b"
    assert events(chain).count("step.succeeded a") == 1


def _kill_waiting():
    value("SELECT pg_stat_clear_snapshot()::text")
    assert value(
        "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


def test_a_worker_whose_connection_was_killed_between_its_steps_goes_on(chain, worker, monkeypatch):
    real = handlers.HANDLERS["tool"]

    def killed_meanwhile(held):
        outcome = real(held)
        pid = value("SELECT pg_backend_pid()")
        with background() as start:
            start(lambda: value("SELECT pg_terminate_backend(%s)", pid)).result()
        return outcome

    monkeypatch.setitem(handlers.HANDLERS, "tool", killed_meanwhile)
    worker.drain("compute")

    chain.refresh_from_db()
    assert (chain.status, chain.attempts.count()) == ("succeeded", 2)


MOVES = {
    "retry": (lambda one: moves.fail(one, moves.Fault(ToolUnavailable("x"), "tool")), "step.retrying a"),
    "fail": (lambda one: moves.fail(one, moves.Fault(ToolFailed("x"), "tool")), "run.failed"),
    "sleep": (lambda one: moves.sleep(one, delay_s=0), "step.sleeping a"),
    "expand": (lambda one: expansion.expand(one, Result(1), planning_step()), "plan.revised"),
}


@pytest.mark.parametrize(("move", "told"), MOVES.values(), ids=MOVES)
def test_a_commit_that_got_lost_is_done_again(submit, monkeypatch, move, told):
    run = submit([echo("a")])
    first = claim("compute", owner="w")
    done = lose_commit(monkeypatch, committed=False)

    move(first)

    assert done == [False]
    assert events(run).count(told) == 1
    assert run.attempts.count() == 1


@pytest.mark.parametrize(("move", "told"), MOVES.values(), ids=MOVES)
def test_a_commit_that_happened_unseen_is_not_done_again(submit, monkeypatch, move, told):
    run = submit([echo("a")])
    first = claim("compute", owner="w")
    lose_commit(monkeypatch, committed=True)

    with pytest.raises(LeaseLost):  # for the worker the step is over; others go on with it
        move(first)

    assert events(run).count(told) == 1
    assert run.attempts.count() == 1


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize(
    "step",
    [
        {"tool": "test.flaky", "arguments": {"failures": 1}},
        {"tool": "test.fail"},
        {"kind": "wait", "arguments": {"seconds": 0.01}},
    ],
    ids=["is retried", "fails", "waits"],
)
def test_a_worker_survives_a_lost_commit_of_whatever_its_step_does(submit, worker, monkeypatch, step, committed):
    tools.calls.clear()
    run = submit([{"key": "a", **step}])
    lost = lose_commit(monkeypatch, committed=committed)

    worker.drain("compute"), worker.drain("system")
    assert lost == [committed]
    worker.finish(run)

    assert run.status == ("failed" if step.get("tool") == "test.fail" else "succeeded")
    ended = [told for told in events(run) if told != "step.started a"]
    assert len(ended) == len(set(ended))


@pytest.mark.parametrize("committed", [True, False])
def test_giving_back_and_stopping_may_be_done_again_after_a_lost_commit(chain, committed):
    first = claim("compute", owner="w")

    def give_back():
        return moves.give_back(first.id, chain.pk, first.claim_token, why="dead")

    def stop():
        return moves.stop(chain.pk, reason="user")

    _loses_its_commit(give_back, committed=committed)
    give_back()
    assert chain.steps.get(key="a").crashes == 1

    _loses_its_commit(stop, committed=committed)
    stop()
    assert events(chain).count("run.cancelled") == 1
    before = photograph()
    assert stop() is False
    assert photograph() == before


def _loses_its_commit(work, *, committed):
    with pytest.MonkeyPatch.context() as once:
        lose_commit(once, committed=committed)
        with pytest.raises(OperationalError):
            work()
    connection.close()
