"""What is reserved for a model call that fails around it, or that is followed by another, is settled all the same."""

import pytest

from agentsys.runs import verify
from agentsys.runs.models import Budget, Reservation
from tests.support.outages import lose_answer
from tests.support.priced import MODEL

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}
NUMBER = {"type": "integer"}


def tokens(run):
    row = Budget.objects.get(run=run, kind="tokens")
    return row.spent, row.reserved


@pytest.mark.promise("P18")
@pytest.mark.parametrize("executed", [True, False])
def test_a_reservation_whose_answer_is_lost_is_given_back(submit, worker, priced, monkeypatch, executed):
    run = submit([SAY], model=MODEL, limits={"tokens": 50_000})
    lose_answer(monkeypatch, "reserve", executed=executed)

    worker.work()

    run.refresh_from_db()
    assert (run.status, tokens(run), len(priced.requests)) == ("running", (0, 0), 0)
    assert Reservation.objects.filter(settled_at=None).count() == 0
    assert [finding for finding in verify.check() if finding.violations] == []
    assert worker.finish(run).status == "succeeded"
    assert tokens(run) == (150, 0)


@pytest.mark.promise("P18")
def test_a_call_that_says_nothing_of_its_use_is_charged_in_full_also_when_another_follows(submit, worker, priced):
    reserved = []
    priced.does(lambda: (reserved.append(tokens(run)[1]), priced.script.pop(0))[1]).answers("no number", tokens=(0, 0))
    priced.answers(7, tokens=(100, 50))
    run = submit([SAY], model=MODEL, limits={"tokens": 50_000}, output_schema=NUMBER)

    worker.finish(run)

    assert len(priced.requests) == 2
    assert tokens(run) == (reserved[0] + 150, 0)
