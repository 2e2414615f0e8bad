"""Answers as the providers and gateways really write them: each has habits that its protocol's paper does not know.

The forms are those of the providers' public documentation of 2025 and 2026; the texts in them are ours.
"""

import json
from typing import Any

import pytest

from agentsys.core.errors import AnswerCut, ModelRefused, ModelUnavailable
from agentsys.llm import client
from agentsys.llm.scripted import ModelServer, Reply
from agentsys.llm.types import ModelRequest, ModelResponse, ToolDef

FETCH = ToolDef("http.get", "Fetch.", {"type": "object", "properties": {"url": {"type": "string"}}})
NOW = ToolDef("time.now", "The time.", {"type": "object", "properties": {}})
FETCHED = {"calls": [{"tool": "http.get", "arguments": {"url": "http://a"}}], "text": ""}


@pytest.fixture(autouse=True)
def ours(server: ModelServer, settings: Any) -> None:
    settings.OPENAI_BASE_URL = settings.OLLAMA_BASE_URL = server.url
    settings.ANTHROPIC_BASE_URL = server.url.removesuffix("/v1")
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = "sk-test"


def ask(model: str, *, streamed: bool = False, **more: Any) -> tuple[ModelResponse, str]:
    """The answer, and what of it was told piece by piece."""
    told: list[str] = []
    request = ModelRequest(**{"purpose": "answer", "system": "Be brief.", "prompt": "How many?", **more})
    return client.complete(model, request, timeout_s=10, told=told.append if streamed else None), "".join(told)


def act(model: str) -> Any:
    return ask(model, purpose="act", tools=(FETCH, NOW))[0].output


def sse(*events: Any, named: bool = False, done: bool = True) -> Reply:
    """A stream of these events; a text is sent as it is."""

    def line(event: Any) -> str:
        if isinstance(event, str):
            return f"{event}\n\n"
        head = f"event: {event['type']}\n" if named else ""
        return f"{head}data: {json.dumps(event)}\n\n"

    body = "".join(map(line, events)) + ("data: [DONE]\n\n" if done else "")
    return Reply(body.encode(), headers={"Content-Type": "text/event-stream; charset=utf-8"})


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    return {**head, "choices": choices, **more}


USED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
DETAILS = {**USED, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}

CHAT_STREAMS = {
    "openai": sse(
        chunk({"role": "assistant", "content": "", "refusal": None}, service_tier="default", obfuscation="x9"),
        chunk({"content": "to be"}, usage=None, obfuscation="k"),
        chunk({"content": " or not"}, usage=None),
        chunk({}, "stop", usage=None),
        chunk(None, usage=DETAILS),
    ),
    "azure": sse(
        {**chunk(None), "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}], "id": ""},
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "to be or not"}),
        chunk({}, "stop", usage=None),
        chunk(None, usage=USED),
    ),
    "openrouter": sse(
        ": OPENROUTER PROCESSING",
        ": OPENROUTER PROCESSING",
        chunk({"role": "assistant", "content": "to be", "reasoning": None}, provider="P", native_finish_reason=None),
        chunk({"role": "assistant", "content": " or not"}),
        chunk({"role": "assistant", "content": ""}, "stop", usage={**USED, "cost": 0.0001}),
    ),
    "reasoning": sse(
        chunk({"role": "assistant", "content": None, "reasoning_content": "Let me think."}),
        chunk({"content": None, "reasoning_content": " Hm."}),
        chunk({"content": "to be or not", "reasoning_content": None}),
        chunk({"content": ""}, "stop", usage=USED),
    ),
    "groq": sse(
        chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1"}),
        chunk({"content": "to be or not"}),
        chunk({}, "stop", x_groq={"id": "req_1", "usage": USED}, usage=USED),
    ),
    "ollama": sse(
        chunk({"role": "assistant", "content": "to be"}, system_fingerprint="fp_ollama"),
        chunk({"role": "assistant", "content": " or not"}, system_fingerprint="fp_ollama"),
        chunk({"role": "assistant", "content": ""}, "stop", system_fingerprint="fp_ollama"),
        chunk(None, usage=USED),
    ),
    "without [DONE]": sse(
        chunk({"role": "assistant", "content": "to be or not"}), chunk({}, "stop", usage=USED), done=False
    ),
    "no empty lines to spare": Reply(
        b"".join(
            b"data:" + json.dumps(one).encode() + b"\r\n\r\n"
            for one in (chunk({"content": "to be or not"}), chunk({}, "stop", usage=USED))
        ),
        headers={"Content-Type": "text/event-stream"},
    ),
}


@pytest.mark.parametrize("who", CHAT_STREAMS)
def test_a_stream_of_chat_completions_is_read_as_each_writes_it(server: ModelServer, who: str) -> None:
    server.script = [CHAT_STREAMS[who]]
    response, told = ask("openai-chat:m", streamed=True)
    assert (response.output, told) == ("to be or not", "to be or not")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)


def broken(**error: Any) -> dict[str, Any]:
    return chunk(
        {"role": "assistant", "content": ""}, "error", error={"code": "server_error", "message": "no", **error}
    )


@pytest.mark.parametrize(
    "last",
    [
        broken(),
        {"error": {"message": "Provider disconnected", "code": 502}},
        {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}},
        *(chunk({"content": "…"}, why) for why in ("error", "network_error", "insufficient_system_resource", "abort")),
        chunk({"content": "…"}),
    ],
)
def test_a_stream_that_tells_of_an_error_is_no_answer(server: ModelServer, last: dict[str, Any]) -> None:
    server.script = [sse(chunk({"role": "assistant", "content": "to be"}), last)]
    with pytest.raises(ModelUnavailable):
        ask("openai-chat:m", streamed=True)


def whole(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "m"}
    return Reply({**head, "choices": [choice], "usage": DETAILS, **more})


def called(arguments: Any, name: str = "http__get", **more: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


URL = '{"url": "http://a"}'
CALLS = {
    "openai": whole({"content": None, "refusal": None, "tool_calls": [called(URL)]}, "tool_calls"),
    "stops instead": whole({"content": "", "tool_calls": [called(URL)]}, "stop"),
    "the old name": whole({"content": None, "tool_calls": [called(URL)]}, "function_call"),
    "no id": whole({"content": "", "tool_calls": [called(URL, id="")]}, "tool_calls"),
    "an index": whole({"content": "", "tool_calls": [called(URL, index=0)]}, "tool_calls"),
    "thoughts": whole({"content": None, "reasoning_content": "Hm.", "tool_calls": [called(URL)]}, "tool_calls"),
}


@pytest.mark.parametrize("who", CALLS)
def test_calls_are_calls_however_they_are_written(server: ModelServer, who: str) -> None:
    server.script = [CALLS[who]]
    assert act("openai-chat:m") == FETCHED


@pytest.mark.parametrize("arguments", ["", "{}", " "])
def test_a_call_without_arguments_has_none(server: ModelServer, arguments: str) -> None:
    server.script = [whole({"content": None, "tool_calls": [called(arguments, "time__now")]}, "tool_calls")]
    assert act("openai-chat:m")["calls"] == [{"tool": "time.now", "arguments": {}}]


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


def claude(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str | None = "end_turn") -> Reply:
    """A stream of messages: blocks with their deltas, pings between."""
    used = {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    begun = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    events = [event("message_start", message={**begun, "stop_reason": None, "stop_sequence": None, "usage": used})]
    for n, (block, deltas) in enumerate(blocks):
        events += [event("content_block_start", index=n, content_block=block), event("ping")]
        events += [event("content_block_delta", index=n, delta=delta) for delta in deltas]
        events.append(event("content_block_stop", index=n))
    if stop:
        delta = {"stop_reason": stop, "stop_sequence": None}
        events += [event("message_delta", delta=delta, usage={"output_tokens": 7}), event("message_stop")]
    return sse(*events, named=True, done=False)


def text_block(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


THOUGHTS = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "c2ln"}],
)
HIDDEN = ({"type": "redacted_thinking", "data": "c2VjcmV0"}, [])


@pytest.mark.parametrize("before", [(), (THOUGHTS,), (HIDDEN,), (THOUGHTS, HIDDEN)])
def test_thoughts_are_no_part_of_what_claude_says(server: ModelServer, before: Any) -> None:
    server.script = [claude(*before, text_block("to be", " or not"))]
    response, told = ask("anthropic:m", streamed=True)
    assert (response.output, told, response.usage.output_tokens) == ("to be or not", "to be or not", 7)


@pytest.mark.parametrize(
    ("stop", "kind"),
    [
        ("max_tokens", AnswerCut),
        ("model_context_window_exceeded", AnswerCut),
        ("refusal", ModelRefused),
        ("pause_turn", ModelUnavailable),
        (None, ModelUnavailable),
    ],
)
def test_claude_stops_for_other_reasons_than_an_end(server: ModelServer, stop: str | None, kind: type) -> None:
    server.script = [claude(text_block("to be"), stop=stop)]
    with pytest.raises(kind):
        ask("anthropic:m", streamed=True)


def message(*content: dict[str, Any], stop: str = "tool_use") -> Reply:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    return Reply({**head, "content": content, "stop_reason": stop, "usage": {"input_tokens": 11, "output_tokens": 7}})


@pytest.mark.parametrize("given", [{}, {"url": "http://a"}])
def test_claude_calls_tools_between_its_thoughts(server: ModelServer, given: dict[str, Any]) -> None:
    thoughts = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "http__get", "input": given}
    server.script = [message(thoughts, {"type": "text", "text": "I fetch it."}, use)]
    assert act("anthropic:m") == {"calls": [{"tool": "http.get", "arguments": given}], "text": "I fetch it."}


def responses(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    used = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head = {"id": "resp_1", "object": "response", "created_at": 1700000000, "model": "m", "error": None}
    rest = {"incomplete_details": None, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"}
    return {**head, **rest, "status": status, "output": list(output), "usage": {**used, **details}, **more}


REASONED = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": None}


def said(text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}


def test_responses_reason_first(server: ModelServer) -> None:
    server.script = [Reply(responses(REASONED, said("to be or not")))]
    assert ask("openai:m")[0].output == "to be or not"


def test_responses_call_tools_after_reasoning(server: ModelServer) -> None:
    call = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "http__get"}
    server.script = [Reply(responses(REASONED, {**call, "arguments": URL}))]
    assert act("openai:m") == FETCHED


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (responses(said("to"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}), AnswerCut),
        (responses(said("to"), status="incomplete", incomplete_details={"reason": "content_filter"}), ModelRefused),
        (responses(status="failed", error={"code": "server_error", "message": "no"}), ModelUnavailable),
        (responses(status="cancelled"), ModelUnavailable),
        (responses(said("to", "in_progress"), status="in_progress"), ModelUnavailable),
        (responses(said("to", "in_progress"), status="queued"), ModelUnavailable),
    ],
    ids=["cut", "filtered", "failed", "cancelled", "in progress", "queued"],
)
def test_responses_that_did_not_complete_are_no_answers(server: ModelServer, response: Any, kind: type) -> None:
    server.script = [Reply(response)]
    with pytest.raises(kind):
        ask("openai:m")


@pytest.mark.parametrize(
    ("word", "kind"),
    [("model_length", AnswerCut), ("max_tokens", AnswerCut), ("sensitive", ModelRefused), ("SAFETY", ModelRefused)],
)
def test_an_end_is_known_by_the_words_of_others_too(server: ModelServer, word: str, kind: type) -> None:
    server.script = [whole({"content": "to be"}, word)]
    with pytest.raises(kind):
        ask("openai-chat:m")


def test_an_end_by_a_word_that_nobody_knows_is_one(server: ModelServer) -> None:
    server.script = [whole({"content": "to be"}, "eos")]
    assert ask("openai-chat:m")[0].output == "to be"
