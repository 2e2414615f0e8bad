"""Quick steps of several runs share a claim and a commit, and none of them pays for another."""

import threading

import pytest

from agentsys.core import db
from agentsys.core.errors import LeaseLost
from agentsys.runs import engine, handlers, leases
from agentsys.runs.store import claims, complete, moves
from agentsys.runs.store.claims import Result
from agentsys.runs.store.sql import SQL
from tests.support.outages import lose_answer
from tests.support.rows import sql
from tests.support.threads import background, until
from tests.support.worker import events, statuses


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def two():
    return [echo("a"), echo("b", depends_on=["a"])]


@pytest.fixture
def statements(monkeypatch):
    """How often each of the engine's statements was sent."""
    real, sent = db.rows, dict.fromkeys(SQL, 0)
    names = {statement.text: name for name, statement in SQL.items()}

    def rows(statement, /, **params):
        sent[names[statement.text]] += 1
        return real(statement, **params)

    monkeypatch.setattr(db, "rows", rows)
    return sent


def results(*held):
    return [(claim, Result(claim.key)) for claim in held]


def test_steps_of_many_runs_cost_few_commits(submit, worker, statements, monkeypatch):
    for name in ("QUICK_S", "LINGER_S"):  # on whatever machine
        monkeypatch.setattr(engine, name, 60.0)
    runs = [submit([echo(f"s{n}", depends_on=[f"s{n - 1}"] if n else []) for n in range(5)]) for _ in range(16)]

    assert worker.drain("compute") == 80

    assert statements["complete"] < 20  # one by one it is 80
    assert statements["claim"] < 12
    for run in runs:
        run.refresh_from_db()
        assert (run.status, run.event_seq, run.attempts.count()) == ("succeeded", 13, 5)


def test_one_statement_moves_each_run_as_if_it_were_alone(submit):
    ends, goes_on, waits = submit([echo("a")]), submit(two()), submit([echo("a"), echo("x"), *two()[1:]])
    held = claims.claim_some("compute", owner="w", limit=3)
    assert [one.run_id for one in held] == [ends.pk, goes_on.pk, waits.pk]

    outcomes = complete.complete_all(results(*held), claim_next=1)

    ends.refresh_from_db()
    assert (ends.status, ends.result) == ("succeeded", {"a": "a"})
    assert outcomes[held[1].claim_token].next.key == "b"
    assert outcomes[held[2].claim_token].next is None  # one only
    assert (statuses(goes_on), statuses(waits)["b"]) == ({"a": "succeeded", "b": "running"}, "ready")
    assert [lane for one in outcomes.values() for lane in one.lanes] == ["compute"]


def test_the_one_that_was_taken_away_changes_nothing_and_the_others_are_recorded(submit):
    runs = [submit(two()) for _ in range(3)]
    held = claims.claim_some("compute", owner="w", limit=3)
    moves.give_back(held[1].id, held[1].run_id, held[1].claim_token, why="released")

    outcomes = complete.complete_all(results(*held), claim_next=3)

    assert isinstance(outcomes[held[1].claim_token], LeaseLost)
    assert [statuses(run)["a"] for run in runs] == ["succeeded", "ready", "succeeded"]
    assert "step.succeeded a" not in events(runs[1])


def test_steps_of_one_run_are_recorded_with_one_statement(submit, statements):
    run = submit([echo("a"), echo("b"), echo("c", depends_on=["a", "b"])])
    held = claims.claim_some("compute", owner="w", limit=8)

    outcomes = complete.complete_all(results(*held), claim_next=2)

    assert (statements["claim"], statements["complete"]) == (1, 1)
    assert [one.next and one.next.key for one in outcomes.values()] == [None, "c"]
    assert statuses(run) == {"a": "succeeded", "b": "succeeded", "c": "running"}
    assert events(run)[1:] == [
        "run.running", "step.started a", "step.started b", "step.succeeded a", "step.succeeded b", "step.started c",
    ]  # fmt: skip


def test_of_a_runs_steps_that_were_given_together_the_fenced_one_keeps_it_open(submit):
    run = submit([echo("a"), echo("b"), echo("c")])
    held = claims.claim_some("compute", owner="w", limit=8)
    moves.give_back(held[1].id, held[1].run_id, held[1].claim_token, why="released")

    outcomes = complete.complete_all(results(*held), claim_next=0)

    assert [isinstance(outcomes[one.claim_token], LeaseLost) for one in held] == [False, True, False]
    assert statuses(run) == {"a": "succeeded", "b": "ready", "c": "succeeded"}
    run.refresh_from_db()
    assert (run.status, run.open_steps, run.steps_done) == ("running", 1, 2)


def test_the_children_of_a_step_are_claimed_along_as_far_as_there_is_room(submit):
    run = submit([echo("a"), *(echo(f"b{n}", depends_on=["a"]) for n in range(5))])
    other = submit(two())
    held = claims.claim_some("compute", owner="w", limit=2)

    outcomes = complete.complete_all(results(*held), claim_next=4)

    assert [len(outcomes[one.claim_token].claims) for one in held] == [3, 1]  # each run's first before any's second
    assert (statuses(other)["b"], list(statuses(run).values()).count("running")) == ("running", 3)


def test_two_steps_that_end_a_run_together_end_it_once(submit):
    run = submit([echo("a"), echo("b")])
    held = [claims.claim("compute", owner="w"), claims.claim("compute", owner="w")]

    complete.complete_all(results(*held), claim_next=2)

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"a": "a", "b": "b"})
    assert events(run).count("run.succeeded") == 1


@pytest.mark.parametrize("executed", [True, False])
def test_a_batch_whose_answer_is_lost_is_recorded_once(submit, monkeypatch, executed):
    runs = [submit(two()) for _ in range(4)]
    held = claims.claim_some("compute", owner="w", limit=4)
    sent = lose_answer(monkeypatch, "complete", executed=executed)

    outcomes = complete.complete_all(results(*held), claim_next=4)

    assert len(sent) == 2
    assert [one.next.key for one in outcomes.values()] == ["b"] * 4
    assert all(events(run)[3:] == ["step.succeeded a", "step.started b"] for run in runs)


def test_claims_whose_answer_is_lost_are_found_by_their_tokens(submit, monkeypatch):
    for _ in range(3):
        submit([echo("a")])
    lose_answer(monkeypatch, "claim")

    assert len(claims.claim_some("compute", owner="w", limit=8)) == 3


def test_a_step_that_was_there_when_a_worker_died_is_claimed_alone(submit):
    """Or the next death, of the same cause, would be counted for its innocent neighbours too."""
    runs = [submit([echo("a")]) for _ in range(4)]
    sql("UPDATE runs_step SET crashes = 1 WHERE run_id IN (%s, %s)", runs[0].pk, runs[2].pk)

    taken = [claims.claim_some("compute", owner="w", limit=8) for _ in range(4)]

    of = [[runs.index(next(run for run in runs if run.pk == one.run_id)) for one in some] for some in taken]
    assert of == [[0], [1], [2], [3]]


def test_what_the_database_refuses_of_one_does_not_keep_the_others_from_it(submit, worker, monkeypatch):
    runs = [submit([echo("a", arguments={"value": n})]) for n in range(12)]
    real = complete.complete_all

    def refusing(done, *, claim_next):
        if any(result.output == 9 for _, result in done):
            raise ValueError("the row that PostgreSQL does not take")
        return real(done, claim_next=claim_next)

    monkeypatch.setattr(complete, "complete_all", refusing)
    worker.drain("compute")

    for run in runs:
        run.refresh_from_db()
    assert [run.status for run in runs].count("succeeded") == 11
    assert runs[9].error["code"] == "internal"


def test_an_unsafe_call_is_recorded_before_anything_else_is_done(submit, worker, monkeypatch):
    for _ in range(8):
        submit([echo("a"), {"key": "pay", "tool": "test.charge", "depends_on": ["a"]}])
    real, unrecorded = handlers.HANDLERS["tool"], []

    def handler(held):
        unrecorded.append(sum(one.gate_open for one in leases.held()))
        return real(held)

    monkeypatch.setitem(handlers.HANDLERS, "tool", handler)
    worker.drain("compute")

    assert unrecorded == [0] * 16


def test_nothing_waits_for_a_step_that_takes_its_time(submit, worker, monkeypatch):
    """What was done before it is recorded, what was to come after it is given back uncharged."""
    runs = [submit([echo("a", arguments={"value": n})]) for n in range(31)]
    slow, go = threading.Event(), threading.Event()
    real = handlers.HANDLERS["tool"]

    def handler(held):
        if held.claim.run_id == runs[20].pk:
            slow.set()
            assert go.wait(30)
        return real(held)

    monkeypatch.setitem(handlers.HANDLERS, "tool", handler)
    monkeypatch.setattr(engine, "LINGER_S", 60.0)  # the slow step comes before any result would be due

    with background() as start:
        drained = start(lambda: worker.drain("compute"))
        assert slow.wait(30)
        until(lambda: (engine.relieve(), len(leases.held()) == 1)[1])
        others = [statuses(run)["a"] for run in runs if run.pk != runs[20].pk]
        go.set()
        drained.result()

    assert set(others) == {"succeeded", "ready"}
    assert others.count("ready") >= 8
    for run in runs:
        run.refresh_from_db()
        assert (run.status, run.steps.get().crashes, run.steps.get().failures) == ("succeeded", 0, 0)


def test_a_claims_time_begins_with_its_work(submit):
    submit([echo("a", timeout_s=5)])
    held = leases.hold(claims.claim("compute", owner="w"))
    try:
        assert not held.is_late()
        assert held.deadline_at == float("inf")
        held.begin()
        assert held.deadline_at < float("inf")
    finally:
        leases.drop(held)
