"""What a model writes is shown to those who follow, while it writes, and is a result only when it is whole."""

import json
from typing import Any

import pytest
import redis

from agentsys.llm import scripted as model_server
from agentsys.runs import dispatch
from tests.support.worker import statuses

ANSWER = [{"key": "say", "kind": "answer", "objective": "Say it."}]


@pytest.fixture
def said(own_redis: Any, settings: Any) -> Any:
    """Everything that is shown, in order."""
    listening = redis.Redis.from_url(settings.REDIS_URL).pubsub()
    listening.subscribe(dispatch.DELTAS)
    assert listening.get_message(timeout=5)["type"] == "subscribe"
    yield lambda: json.loads(json.loads(listening.get_message(timeout=5)["data"])[0])
    listening.close()


@pytest.fixture
def model(settings: Any) -> Any:
    with model_server.serving() as server:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.url, "sk-test"
        settings.MODEL = "openai-chat:scripted"
        yield server


def test_an_answer_is_shown_as_it_is_written_and_recorded_once(submit: Any, worker: Any, said: Any, model: Any) -> None:
    model.script = [model_server.spoken("It is\u2028", " four.")]
    run = submit(ANSWER)

    worker.drain("model")

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"say": "It is\u2028 four."})
    assert said() == {"run": str(run.pk), "step": "say", "n": 0, "data": {"text": "It is\u2028"}}
    assert "It is" not in "".join(str(event.data) for event in run.events.all())


def test_what_was_shown_of_an_answer_that_broke_off_is_no_result(
    submit: Any, worker: Any, said: Any, model: Any
) -> None:
    model.script = [model_server.spoken("It is five", breaks="lost")]
    run = submit(ANSWER)

    worker.drain("model")

    assert said()["data"] == {"text": "It is five"}
    assert statuses(run) == {"say": "sleeping"}
    run.refresh_from_db()
    assert (run.result, run.output_tokens) == (None, 0)
