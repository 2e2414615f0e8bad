"""What models were asked for a run, by REST."""

from typing import Any

import pytest

from agentsys.runs.models import ModelCall
from tests.support.priced import MODEL

RUNS = "/api/v1/runs"
SAY = {"key": "say", "kind": "answer", "objective": "Say something."}

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture
def run(submit: Any, worker: Any, priced: Any) -> Any:
    priced.answers({"n": 1}, tokens=(100, 50))
    return worker.finish(submit([SAY], model=MODEL, goal="Greet."))


def test_calls_are_listed_and_one_is_shown_whole(viewer: Any, run: Any) -> None:
    (listed,) = viewer.get(f"{RUNS}/{run.pk}/model-calls").json()["results"]
    assert {name: listed[name] for name in ("step", "attempt", "number", "model", "input_tokens", "cost_usd")} == {
        "step": "say", "attempt": 1, "number": 1, "model": MODEL, "input_tokens": 100, "cost_usd": 0.0002,
    }  # fmt: skip
    assert "request" not in listed

    whole = viewer.get(f"{RUNS}/{run.pk}/model-calls/{listed['id']}").json()

    assert whole["response"] == {"n": 1}
    assert "Say something." in whole["request"]["prompt"]
    assert whole | {"request": None, "response": None} == listed | {"request": None, "response": None}


@pytest.mark.parametrize("number", ["0", "999999999", "9" * 30, "-1", "x"])
def test_a_call_that_is_not_there_is_not_found(viewer: Any, run: Any, problem: Any, number: str) -> None:
    problem(viewer.get(f"{RUNS}/{run.pk}/model-calls/{number}"), 404, "not_found")


def test_a_call_of_another_run_or_workspace_is_not_found(
    viewer: Any, stranger: Any, submit: Any, run: Any, problem: Any
) -> None:
    call = ModelCall.objects.get().pk
    problem(viewer.get(f"{RUNS}/{submit([SAY]).pk}/model-calls/{call}"), 404, "not_found")
    problem(stranger.get(f"{RUNS}/{run.pk}/model-calls/{call}"), 404, "not_found")
    problem(stranger.get(f"{RUNS}/{run.pk}/model-calls"), 404, "not_found")
