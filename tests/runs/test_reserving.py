"""What is reserved for a model call that fails around it, or that is followed by another, is settled all the same."""

import pytest

from agentsys.core.errors import ModelUnavailable
from agentsys.llm.types import CallEstimate
from agentsys.runs import verify
from agentsys.runs.models import Budget, Reservation
from agentsys.runs.store import moves
from agentsys.runs.store.claims import claim
from agentsys.runs.store.reservations import Spending, reserve
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


@pytest.mark.promise("P18")
@pytest.mark.parametrize("executed", [True, False])
def test_a_second_reservation_whose_answer_is_lost_charges_the_first_call_once(
    submit, worker, priced, monkeypatch, executed
):
    def then_lose() -> object:
        lose_answer(monkeypatch, "reserve", executed=executed)
        return priced.script.pop(0)

    priced.does(then_lose).answers("no number", tokens=(100, 50)).answers(7, tokens=(10, 5))
    run = submit([SAY], answer="${say}", model=MODEL, limits={"tokens": 50_000}, output_schema=NUMBER)

    worker.work()

    assert (len(priced.requests), tokens(run)) == (1, (150, 0))
    assert worker.finish(run).status == "succeeded"
    assert tokens(run) == (165, 0)


@pytest.mark.promise("P18")
def test_what_a_copy_of_a_claim_has_reserved_is_settled_by_whoever_ends_it(submit):
    """A process was copied with its claim: one of the two ends it, and knows nothing of what the other reserved."""
    run = submit([SAY], limits={"tokens": 50_000})
    held = claim("model", owner="w")
    reserve(held, CallEstimate(input_tokens=100, max_output_tokens=400), Spending())
    assert tokens(run) == (0, 500)

    moves.fail(held, moves.Fault(ModelUnavailable("away"), "model", Spending()))

    assert tokens(run) == (500, 0)  # nobody knows what the other has used
    assert [finding for finding in verify.check() if finding.violations] == []
