"""What people tell a run is kept, and read by its next step that asks a model."""

import pytest

from agentsys.core.errors import InvalidInput, InvalidTransition, NotFound, TooManyMessages
from agentsys.runs import control, handlers, services
from agentsys.runs.models import Run
from agentsys.runs.store import messages, moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture
def told(monkeypatch):
    """The messages that each planning and answering step was given."""
    given = []

    def spy(module, name):
        real = getattr(module, name)

        def wrapped(*args, **how):
            given.append((name, list(how["messages"])))
            return real(*args, **how)

        monkeypatch.setattr(module, name, wrapped)

    spy(handlers.planner, "make_plan")
    spy(handlers.answer, "make_answer")
    return given


def test_the_planning_step_and_the_answer_are_told_and_each_message_is_read_once(submit, worker, told, make_user):
    answer = {"key": "z", "kind": "answer", "depends_on": ["a"]}
    run = submit([echo("a"), answer], goal="Say it")
    control.message(run, "First.", user=make_user("ann"))
    control.pause(run)
    control.message(run, "Second.")
    control.resume(run)

    worker.finish(run)

    assert told == [("make_answer", ["First.", "Second."])]
    assert [(m.seq, m.by, m.read_by, m.read_at is None) for m in run.messages.all()] == [
        (1, "ann", "z", False),
        (2, "", "z", False),
    ]
    data = {e.type: e.data for e in run.events.filter(type__startswith="message.")}
    assert data["message.read"] == {"seqs": [1, 2]}
    assert data["message.received"] == {"seq": 2, "text": "Second.", "by": None}
    assert events(run).count("message.read z") == 1


def test_the_offline_model_plans_as_ever(submit, worker, told):
    run = submit(goal='Count the words in "one two three"')
    control.message(run, "Count quickly.")

    assert worker.finish(run).status == "succeeded"

    assert told == [("make_plan", ["Count quickly."])]


def test_an_attempt_that_comes_again_is_told_again(submit, worker, told):
    run = submit(goal='Count the words in "one two three"')
    control.message(run, "Quickly.")
    held = claim("model", owner="w")
    assert messages.read(held) == ["Quickly."]
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")

    worker.finish(run)

    assert told == [("make_plan", ["Quickly."])]
    assert events(run).count("message.read plan.1") == 1


def test_a_worker_that_lost_its_step_reads_nothing(submit):
    run = submit(goal='Count the words in "one two three"')
    held = claim("model", owner="w")
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")
    control.message(run, "For somebody else.")
    before = photograph()

    assert messages.read(held) == []

    assert photograph() == before


@pytest.mark.parametrize("text", ["", "  \n", "x" * 4_001, "a\0b", "\ud800"])
def test_what_is_no_message_is_refused(submit, text):
    run = submit([echo()])
    before = photograph()

    with pytest.raises(InvalidInput):
        control.message(run, text)

    assert photograph() == before


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "cancelling"])
def test_a_run_that_has_ended_takes_none(submit, worker, end):
    run = submit([{"key": "a", "tool": "test.fail"}] if end == "failed" else [echo()])
    held = claim("compute", owner="w") if end == "cancelling" else None
    if end.startswith("cancel"):
        services.cancel(run)
    if not held:
        worker.finish(run)
    before = photograph()

    with pytest.raises(InvalidTransition):
        control.message(run, "Too late.")

    assert photograph() == before
    if held:
        moves.give_back(held.id, run.pk, held.claim_token, why="released")


def test_a_run_that_is_not_there_takes_none(submit):
    run = submit([echo()])
    control.message(run, "Goes with it.")
    sql("DELETE FROM runs_run WHERE id = %s", run.pk)

    with pytest.raises(NotFound):
        control.message(Run(id=run.pk, workspace_id=run.workspace_id), "Hello?")
    assert sweeps.recount_slots() == 1  # its step went without a word


def test_messages_have_a_bound_and_no_number_twice(submit, monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGES", 5)
    run = submit([echo()])

    in_parallel(*[lambda n=n: control.message(run, f"{n}") for n in range(5)])
    before = photograph()
    with pytest.raises(TooManyMessages):
        control.message(run, "One too many.")

    assert photograph() == before
    assert list(run.messages.values_list("seq", flat=True)) == [1, 2, 3, 4, 5]
