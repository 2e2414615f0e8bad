"""What a provider's failures mean: what passes, what is too long, what was declined, cut or broken off."""

from decimal import Decimal
from typing import Any

import pytest

from agentsys.core.errors import (
    AnswerCut,
    ContextOverflow,
    ModelFailed,
    ModelNotFound,
    ModelOverloaded,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
)
from agentsys.llm import client
from agentsys.llm import scripted as model_server
from agentsys.llm.compaction import OUTPUT_CHARS, SECTION_CHARS, TURNS, compacted
from agentsys.llm.scripted import ModelServer, Reply
from agentsys.llm.scripted.protocols import Chat, encoded
from agentsys.llm.scripted.replies import Said
from agentsys.llm.types import Called, ModelRequest, ModelResponse, Turn, Usage

MODEL = "openai-chat:some-model"


def ask(*, streamed: bool = False, **more: Any) -> ModelResponse:
    request = ModelRequest(**{"purpose": "answer", "system": "s", "prompt": "p", **more})
    return client.complete(MODEL, request, timeout_s=10, told=(lambda text: None) if streamed else None)


def closed(*chunks: bytes) -> Reply:
    """A stream whose connection is closed after these, as if that were its end."""
    return Reply(b"".join(chunks), headers={"Content-Type": "text/event-stream"})


TO_BE = encoded(next(Chat.events(Said(("to be",)))))


@pytest.mark.parametrize(
    ("reply", "kind", "uses_attempt"),
    [
        (model_server.fault(529), ModelOverloaded, False),
        (model_server.fault(503, "overloaded", "overloaded_error"), ModelOverloaded, False),
        (model_server.fault(503), ModelUnavailable, True),
        (model_server.fault(500), ModelUnavailable, True),
    ],
)
def test_a_model_with_too_much_to_do_uses_up_no_try(
    server: ModelServer, reply: Reply, kind: type[ModelUnavailable], uses_attempt: bool
) -> None:
    server.script = [reply]
    with pytest.raises(ModelUnavailable) as caught:
        ask()
    assert type(caught.value) is kind
    assert (caught.value.uses_attempt, caught.value.data["cost"]) == (uses_attempt, False)


def test_what_is_too_long_is_told_from_what_is_wrong(server: ModelServer) -> None:
    long = model_server.fault(400, "maximum context length is 8192 tokens", "context_length_exceeded")
    server.script = [long, model_server.fault(400, "bad"), model_server.fault(404, "no such model", "model_not_found")]
    with pytest.raises(ContextOverflow, match="longer than the model can read"):
        ask()
    with pytest.raises(ModelFailed) as caught:
        ask()
    assert caught.value.code == "model_failed"
    with pytest.raises(ModelNotFound):
        ask()


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (model_server.ended("content_filter"), ModelRefused, "declined"),
        (model_server.ended("stop", refusal="I will not do that."), ModelRefused, "I will not do that"),
        (model_server.ended("length"), AnswerCut, "AGENTSYS_MODEL_MAX_TOKENS"),
    ],
)
def test_what_was_declined_or_cut_is_no_answer_and_says_what_it_used(
    server: ModelServer, reply: Reply, kind: type[ModelFailed], said: str
) -> None:
    server.script = [reply]
    with pytest.raises(kind, match=said) as caught:
        ask()
    assert not caught.value.retryable
    assert Usage.of_data(caught.value.data["usage"]) == Usage(11, 7, Decimal(0), 1)


def test_a_provider_that_repeats_the_key_is_not_repeated(server: ModelServer, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-live-0123456789"
    server.script = [model_server.fault(401, "Incorrect API key provided: sk-live-0123456789", "invalid_api_key")]
    with pytest.raises(ModelUnauthorized) as caught:
        ask()
    assert "sk-live" not in str(caught.value.as_dict())
    assert "OPENAI_API_KEY" in caught.value.message


@pytest.mark.parametrize(
    "reply",
    [
        closed(TO_BE),
        closed(TO_BE, TO_BE),
        closed(TO_BE, encoded(Chat.error())),
        closed(TO_BE, b'data: {"choices": [{"index": 0, "del'),
        closed(TO_BE, b"data: [DONE]\n\n"),
        closed(b"data: [DONE]\n\n"),
        closed(),
        Reply(b"<html>busy</html>", headers={"Content-Type": "text/html"}),
    ],
    ids=["closed", "closed later", "an error", "half a chunk", "done without an end", "empty", "nothing", "a page"],
)
def test_a_stream_without_its_end_is_never_an_answer(server: ModelServer, reply: Reply) -> None:
    server.script = [reply]
    with pytest.raises((ModelUnavailable, ModelFailed)) as caught:
        ask(streamed=True)
    assert "to be" not in caught.value.message


# --- Made shorter -------------------------------------------------------------------------
def test_a_request_is_made_shorter_by_what_grows_and_says_so() -> None:
    turns = tuple(Turn((Called(f"c{n}", "t", {}, "o" * 5_000),)) for n in range(20))
    prompt = "# Objective\n\nFind it.\n\n# Outputs\n\n" + "a" * 50_000 + "the end"
    request = ModelRequest("act", "system", prompt, turns=turns, note="last")
    shorter = compacted(request)
    assert (shorter.system, shorter.note, len(shorter.turns)) == ("system", "last", TURNS)
    assert [turn.calls[0].id for turn in shorter.turns] == [f"c{n}" for n in range(20 - TURNS, 20)]
    assert all(len(turn.calls[0].output) < OUTPUT_CHARS + 100 for turn in shorter.turns)
    assert shorter.prompt.startswith("# Objective\n\nFind it.\n\n# Outputs\n\na")
    assert "the end" in shorter.prompt
    assert f"The first {20 - TURNS} turns are left out" in shorter.prompt
    assert len(shorter.prompt) < SECTION_CHARS + 300


def test_a_short_request_stays_as_it_is() -> None:
    request = ModelRequest("answer", "s", "p", turns=(Turn((Called("c", "t", {}, "o"),)),))
    assert compacted(request) == request
