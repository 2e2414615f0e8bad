"""The final answer: from the outputs, in the shape that was asked for."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentsys.agents.answer import make_answer
from agentsys.agents.prompts import Prompts
from agentsys.core.errors import InvalidInput, OutputInvalid
from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import ModelServer, serving

SCHEMA = {"type": "object", "properties": {"words": {"type": "integer"}}, "required": ["words"]}


@pytest.fixture
def server(settings: Any) -> Iterator[ModelServer]:
    with serving() as model:
        settings.OPENAI_BASE_URL = model.url
        yield model


def answer(schema: Any = None, *, model: str = "openai-chat:x", outputs: Any = None) -> Any:
    given = {"count": {"words": 3}} if outputs is None else outputs
    options: dict[str, Any] = {"prompts": Prompts(), "output_schema": schema, "timeout_s": 10}
    return make_answer("How many words?", model=model, outputs=given, **options)


def test_a_model_answers_from_the_outputs(server: ModelServer) -> None:
    server.script = [model_server.text("Three.")]
    assert answer()[0] == "Three."
    assert '{"count": {"words": 3}}' in str(server.requests[0]["messages"][-1]["content"])


def test_an_answer_has_the_shape_that_was_asked_for(server: ModelServer) -> None:
    server.script = [model_server.submit({"words": 3})]
    assert answer(SCHEMA)[0] == {"words": 3}


def test_a_mismatch_goes_back_to_the_model(server: ModelServer) -> None:
    server.script = [model_server.submit({"words": "three"}), model_server.submit({"words": 3})]
    output, usage = answer(SCHEMA)
    assert (output, usage.model_calls) == ({"words": 3}, 2)
    assert "$.words" in str(server.requests[1]["messages"][-1]["content"])


def test_after_two_corrections_it_is_an_error(server: ModelServer) -> None:
    server.script = [model_server.submit({})] * 4
    with pytest.raises(OutputInvalid, match="words"):
        answer(SCHEMA)
    assert len(server.requests) == 3


def test_offline_the_outputs_are_the_answer() -> None:
    assert answer(model="offline")[0] == {"words": 3}
    assert answer(SCHEMA, model="offline")[0] == {"words": 3}
    with pytest.raises(OutputInvalid):
        answer(SCHEMA, model="offline", outputs={"a": 1})


@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"$ref": "http://127.0.0.1:9/schema"}, {"$ref": "#/absent"}])
def test_a_schema_that_is_none_is_refused_and_nothing_is_fetched_for_it(schema: Any) -> None:
    with pytest.raises(InvalidInput, match="JSON Schema"):
        answer(schema, model="offline")


def test_a_pattern_that_would_backtrack_for_ages_holds_no_worker_up() -> None:
    schema = {"type": "object", "properties": {"text": {"pattern": "^(a+)+$"}}, "required": ["text"]}
    begun = time.process_time()
    with pytest.raises(OutputInvalid, match="does not match"):
        answer(schema, model="offline", outputs={"count": {"text": "a" * 5_000 + "b"}})
    assert time.process_time() - begun < 5  # with Python's own patterns: for ever


def test_a_pattern_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(InvalidInput, match="linear time"):
        answer({"properties": {"a": {"pattern": "(?=a)b"}}}, model="offline")


def test_what_people_have_said_since_is_in_the_prompt(server: ModelServer) -> None:
    server.script = [model_server.text("Trois.")]
    options: dict[str, Any] = {"prompts": Prompts(), "output_schema": None, "timeout_s": 10}

    make_answer("How many?", model="openai-chat:x", outputs={}, messages=["In French."], **options)

    assert '["In French."]' in str(server.requests[0]["messages"][-1]["content"])
