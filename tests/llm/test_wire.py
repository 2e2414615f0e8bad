"""Every provider's protocol, over real HTTP: answers, streams, and all that goes wrong on the way."""

from typing import Any

import anthropic
import openai
import pytest

from agentsys.core.errors import (
    AgentSysError,
    AnswerCut,
    ContextOverflow,
    ModelFailed,
    ModelNotFound,
    ModelOverloaded,
    ModelQuotaExhausted,
    ModelRateLimited,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
)
from agentsys.llm import client, scripted
from agentsys.llm.scripted import ModelServer, Reply
from agentsys.llm.types import Called, ModelRequest, ModelResponse, ToolDef, Turn

PATHS = {
    "openai-chat:m": "/v1/chat/completions",
    "openai:m": "/v1/responses",
    "anthropic:m": "/v1/messages",
    "ollama:m": "/v1/chat/completions",
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FETCH = ToolDef("http.get", "Fetch.", {"type": "object", "properties": {"url": {"type": "string"}}})


@pytest.fixture(params=PATHS)
def model(request: Any, server: ModelServer, settings: Any) -> str:
    """A model of each provider, all of whose requests go to the server."""
    settings.OPENAI_BASE_URL = settings.OLLAMA_BASE_URL = server.url
    settings.ANTHROPIC_BASE_URL = server.url.removesuffix("/v1")
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = "sk-test"
    return str(request.param)


def ask(model: str, *, streamed: bool = False, timeout_s: float = 10, **more: Any) -> ModelResponse:
    request = ModelRequest(**{"purpose": "answer", "system": "Be brief.", "prompt": "How many?", **more})
    told: list[str] = []
    response = client.complete(model, request, timeout_s=timeout_s, told=told.append if streamed else None)
    assert not streamed or "".join(told) == response.output
    return response


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_text_comes_back_with_what_it_used(server: ModelServer, model: str, streamed: bool) -> None:
    server.script = [scripted.spoken("to be", " or", " not")]
    response = ask(model, streamed=streamed)
    assert response.output == "to be or not"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)
    assert server.requests[0]["path"] == PATHS[model]
    assert bool(server.requests[0].get("stream")) is streamed
    assert "How many?" in str(server.requests[0])


def test_structured_output_comes_back_as_it_is(server: ModelServer, model: str) -> None:
    server.script = [scripted.submit({"n": 4})]
    assert ask(model, output_schema=SCHEMA).output == {"n": 4}


def test_calls_come_back_by_the_tools_own_names_and_several_at_once(server: ModelServer, model: str) -> None:
    server.script = [scripted.calls([("http__get", {"url": "http://a"}), ("http__get", {"url": "http://b"})])]
    wanted = [{"tool": "http.get", "arguments": {"url": f"http://{host}"}} for host in "ab"]
    assert ask(model, purpose="act", tools=(FETCH,)).output == {"calls": wanted, "text": ""}


def test_earlier_turns_reach_the_model_in_its_own_form(server: ModelServer, model: str) -> None:
    server.script = [scripted.text("done")]
    turn = Turn((Called("call_1_a", "http.get", {"url": "http://x"}, "the page says 42"),), "I fetch it.")
    assert ask(model, purpose="act", tools=(FETCH,), turns=(turn,)).output == {"result": "done"}
    sent = str(server.requests[0])
    assert "the page says 42" in sent
    assert "I fetch it." in sent
    assert "call_1_a" in sent


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (scripted.fault(429), ModelRateLimited),
        (scripted.fault(429, retry_after="86400"), ModelRateLimited),
        (scripted.fault(500), ModelUnavailable),
        (scripted.fault(502), ModelUnavailable),
        (scripted.fault(503), ModelUnavailable),
        (scripted.fault(529), ModelOverloaded),
        (scripted.fault(401), ModelUnauthorized),
        (scripted.fault(403), ModelUnauthorized),
        (scripted.fault(402), ModelQuotaExhausted),
        (scripted.fault(404), ModelNotFound),
        (scripted.fault(400), ModelFailed),
        (scripted.fault(422), ModelFailed),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else value.__name__,
)
def test_each_fault_is_told_from_the_others_and_has_cost_nothing(
    server: ModelServer, model: str, reply: Reply, kind: type[AgentSysError]
) -> None:
    server.script = [reply, scripted.text("never asked for")]
    with pytest.raises(kind) as caught:
        ask(model)
    assert len(server.requests) == 1
    assert caught.value.data["cost"] is False
    if "retry-after" in reply.headers:
        assert caught.value.data["retry_after_s"] == 86_400


@pytest.mark.parametrize(
    ("model_name", "message", "code"),
    [
        ("openai-chat:m", "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        ("openai:m", "Your input exceeds the context window of this model.", "context_length_exceeded"),
        ("anthropic:m", "prompt is too long: 250000 tokens > 200000 maximum", "invalid_request_error"),
    ],
)
def test_what_is_too_long_is_known_as_such(
    server: ModelServer, settings: Any, model_name: str, message: str, code: str
) -> None:
    settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_API_KEY = server.url.removesuffix("/v1"), "sk-test"
    server.script = [scripted.fault(400, message, code)]
    with pytest.raises(ContextOverflow):
        ask(model_name)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("reason", "kind"), [("length", AnswerCut), ("content_filter", ModelRefused)])
def test_what_was_cut_or_declined_is_no_answer(
    server: ModelServer, model: str, reason: str, kind: type[AgentSysError], streamed: bool
) -> None:
    server.script = [scripted.ended(reason)]
    with pytest.raises(kind) as caught:
        ask(model, streamed=streamed)
    assert caught.value.data["usage"]["output_tokens"] == 7


@pytest.mark.parametrize("breaks", ["closed", "lost", "error"])
def test_a_stream_that_breaks_in_the_middle_is_never_an_answer_and_is_asked_for_again_as_a_whole(
    server: ModelServer, model: str, breaks: Any
) -> None:
    server.script = [scripted.spoken("to be", " or", " not", breaks=breaks)]
    with pytest.raises(ModelUnavailable) as caught:
        ask(model, streamed=True)
    assert caught.value.retryable
    assert caught.value.data.get("cost") is not False


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"{}", b'{"choices": []}', b"<html>busy</html>", b"\xff\xfe", b'{"error": "x"}'],
    ids=repr,
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_in_no_protocol_is_an_error_of_ours(
    server: ModelServer, model: str, body: bytes, streamed: bool
) -> None:
    server.script = [Reply(body)]
    with pytest.raises((ModelUnavailable, ModelFailed)):
        ask(model, streamed=streamed)


def test_arguments_that_are_no_json_are_told_and_not_obeyed(server: ModelServer, model: str) -> None:
    server.script = [scripted.call("http__get", '{"url": ')]
    (call,) = ask(model, purpose="act", tools=(FETCH,)).output["calls"]
    assert call["arguments"] in ('{"url": ', {"value": '{"url": '})


def test_a_first_word_that_comes_too_late_is_not_waited_for(server: ModelServer, model: str) -> None:
    server.script = [scripted.text("late", delay_s=2.0)]
    with pytest.raises(ModelUnavailable):
        ask(model, timeout_s=0.3)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_of_two_megabytes_is_read(server: ModelServer, model: str, streamed: bool) -> None:
    long = "0123456789abcdef" * 131_072
    server.script = [scripted.text(long)]
    assert ask(model, streamed=streamed, timeout_s=30).output == long


# --- The server itself, by the providers' own libraries --------------------------------------
@pytest.fixture
def official(server: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="sk-test", max_retries=0)


@pytest.fixture
def claude(server: ModelServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="sk-test", max_retries=0)


ASKED: Any = [{"role": "user", "content": "How many?"}]


def test_chat_completions_are_what_the_official_library_reads(server: ModelServer, official: openai.OpenAI) -> None:
    server.script = [scripted.text("four"), scripted.spoken("fo", "ur"), scripted.call("f", {"n": 4})]
    assert official.chat.completions.create(model="m", messages=ASKED).choices[0].message.content == "four"
    chunks = list(official.chat.completions.create(model="m", messages=ASKED, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "four"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    called: Any = official.chat.completions.create(model="m", messages=ASKED).choices[0].message.tool_calls
    assert (called[0].function.name, called[0].function.arguments) == ("f", '{"n": 4}')


def test_responses_are_what_the_official_library_reads(server: ModelServer, official: openai.OpenAI) -> None:
    server.script = [scripted.text("four"), scripted.spoken("fo", "ur"), scripted.call("f", {"n": 4})]
    assert official.responses.create(model="m", input="How many?").output_text == "four"
    with official.responses.stream(model="m", input="How many?") as stream:
        assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == "four"
        assert stream.get_final_response().status == "completed"
    called: Any = official.responses.create(model="m", input="How many?").output[0]
    assert (called.type, called.name, called.arguments) == ("function_call", "f", '{"n": 4}')


def test_messages_are_what_the_official_library_reads(server: ModelServer, claude: anthropic.Anthropic) -> None:
    server.script = [scripted.text("four"), scripted.spoken("fo", "ur"), scripted.call("f", {"n": 4})]
    asked: dict[str, Any] = {"model": "m", "max_tokens": 10, "messages": ASKED}
    said: Any = claude.messages.create(**asked).content[0]
    assert said.text == "four"
    with claude.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "four"
        assert stream.get_final_message().stop_reason == "end_turn"
    called: Any = claude.messages.create(**asked).content[0]
    assert (called.type, called.name, called.input) == ("tool_use", "f", {"n": 4})


def test_embeddings_are_what_the_official_library_reads(server: ModelServer, official: openai.OpenAI) -> None:
    server.script = [scripted.text(""), scripted.text("")]
    one, two = (official.embeddings.create(model="m", input=["a", "b"], encoding_format="float").data for _ in range(2))
    assert [row.embedding for row in one] == [row.embedding for row in two]
    assert one[0].embedding != one[1].embedding


def test_faults_are_what_the_official_libraries_raise(
    server: ModelServer, official: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    server.script = [scripted.fault(429, retry_after="7"), scripted.fault(529)]
    with pytest.raises(openai.RateLimitError) as caught:
        official.chat.completions.create(model="m", messages=ASKED)
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        claude.messages.create(model="m", max_tokens=10, messages=ASKED)
    assert overloaded.value.body == {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
