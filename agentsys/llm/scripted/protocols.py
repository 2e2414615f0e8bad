"""What a model says, in the words of each protocol: whole, or as the events of a stream."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from agentsys.llm.scripted.replies import INPUT_TOKENS, OUTPUT_TOKENS, Said

#: An event of a stream: its name (empty: none is sent) and its data.
Event = tuple[str, dict[str, Any]]
NAME, CREATED = "scripted", 1_700_000_000
_TOTAL = INPUT_TOKENS + OUTPUT_TOKENS


class Chat:
    """OpenAI's chat completions, and those of all servers that are compatible."""

    ending = b"data: [DONE]\n\n"

    @staticmethod
    def whole(said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": said.refusal or None}
        if said.calls:
            message["tool_calls"] = [_chat_call(n, *one) for n, one in enumerate(said.calls, 1)]
        choice = {"index": 0, "message": message, "finish_reason": said.reason, "logprobs": None}
        return {**_chat_head("chat.completion"), "choices": [choice], "usage": _chat_usage()}

    @staticmethod
    def events(said: Said) -> Iterator[Event]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": piece} for piece in said.pieces]
        if said.calls:
            made = [{"index": n, **_chat_call(n + 1, *one)} for n, one in enumerate(said.calls)]
            deltas.append({"role": "assistant", "tool_calls": made})
        for delta in deltas:
            yield "", _chunk(delta, None)
        yield "", _chunk({}, said.reason)
        yield "", {**_chat_head("chat.completion.chunk"), "choices": [], "usage": _chat_usage()}

    @staticmethod
    def error() -> Event:
        return "", {"error": {"message": "something broke", "type": "server_error", "code": "server_error"}}


def _chunk(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return {**_chat_head("chat.completion.chunk"), "choices": [choice]}


def _chat_head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": CREATED, "model": NAME}


def _chat_call(n: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _chat_usage() -> dict[str, int]:
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": _TOTAL}


class Responses:
    """OpenAI's responses."""

    ending = b""

    @staticmethod
    def whole(said: Said) -> dict[str, Any]:
        items = [*([_message(said)] if said.pieces or said.refusal else []), *_function_calls(said)]
        return _response(said, items)

    @staticmethod
    def events(said: Said) -> Iterator[Event]:
        number = iter(range(10_000))
        yield _numbered(number, "response.created", response=_response(said, [], status="in_progress"))
        for index, item in enumerate(Responses.whole(said)["output"]):
            started = {**item, "status": "in_progress", **({"content": []} if "content" in item else {"arguments": ""})}
            yield _numbered(number, "response.output_item.added", output_index=index, item=started)
            where = {"item_id": item["id"], "output_index": index}
            if item["type"] == "message":
                yield from _spoken(number, said, where)
            else:
                yield _numbered(number, "response.function_call_arguments.delta", delta=item["arguments"], **where)
                done = {"arguments": item["arguments"], "name": item["name"]}
                yield _numbered(number, "response.function_call_arguments.done", **done, **where)
            yield _numbered(number, "response.output_item.done", output_index=index, item=item)
        kind = "response.incomplete" if said.reason in ("length", "content_filter") else "response.completed"
        yield _numbered(number, kind, response=Responses.whole(said))

    @staticmethod
    def error() -> Event:
        told = {"type": "error", "code": "server_error", "message": "something broke", "param": None}
        return "error", {**told, "sequence_number": 99}


def _spoken(number: Iterator[int], said: Said, where: dict[str, Any]) -> Iterator[Event]:
    where = {**where, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield _numbered(number, "response.content_part.added", part=part, **where)
    for piece in said.pieces:
        yield _numbered(number, "response.output_text.delta", delta=piece, logprobs=[], **where)
    yield _numbered(number, "response.output_text.done", text=said.text, logprobs=[], **where)


def _numbered(number: Iterator[int], kind: str, **data: Any) -> Event:
    return kind, {"type": kind, "sequence_number": next(number), **data}


def _message(said: Said) -> dict[str, Any]:
    refused = {"type": "refusal", "refusal": said.refusal}
    part = refused if said.refusal else {"type": "output_text", "text": said.text, "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _function_calls(said: Said) -> list[dict[str, Any]]:
    return [
        {"id": f"fc_{n}", "type": "function_call", "call_id": f"call_{n}", "name": name, "arguments": arguments,
         "status": "completed"}
        for n, (name, arguments) in enumerate(said.calls, 1)
    ]  # fmt: skip


def _response(said: Said, items: list[dict[str, Any]], status: str = "") -> dict[str, Any]:
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(said.reason)
    usage = {
        "input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": _TOTAL,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": CREATED, "model": NAME, "output": items, "error": None,
        "status": status or ("incomplete" if cut else "completed"), "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [], "incomplete_details": {"reason": cut} if cut else None, "usage": usage,
    }  # fmt: skip


class Messages:
    """Anthropic's messages."""

    ending = b""
    _REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}

    @classmethod
    def whole(cls, said: Said) -> dict[str, Any]:
        return {**cls._head(cls._REASONS[said.reason]), "content": cls._blocks(said)}

    @classmethod
    def events(cls, said: Said) -> Iterator[Event]:
        yield "message_start", {"type": "message_start", "message": {**cls._head(None), "content": []}}
        for index, block in enumerate(cls._blocks(said)):
            is_text = block["type"] == "text"
            empty = {**block, "text": ""} if is_text else {**block, "input": {}}
            yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}
            written = json.dumps(block.get("input"))
            deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in said.pieces]
            for delta in deltas if is_text else [{"type": "input_json_delta", "partial_json": written}]:
                yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            yield "content_block_stop", {"type": "content_block_stop", "index": index}
        delta = {"stop_reason": cls._REASONS[said.reason], "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}}
        yield "message_stop", {"type": "message_stop"}

    @staticmethod
    def error() -> Event:
        return "error", {"type": "error", "error": {"type": "api_error", "message": "something broke"}}

    @staticmethod
    def _head(reason: str | None) -> dict[str, Any]:
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS if reason else 1}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": NAME}
        return {**head, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    @staticmethod
    def _blocks(said: Said) -> list[dict[str, Any]]:
        texts = [{"type": "text", "text": said.text}] if said.pieces else []
        used = [
            {"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": _object(arguments)}
            for n, (name, arguments) in enumerate(said.calls, 1)
        ]
        return [*texts, *used]


def _object(arguments: str) -> Any:
    """Here arguments are an object; what is none is sent as a model would that writes it as one text."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return {"value": arguments}
    return found if isinstance(found, dict) else {"value": found}


Protocol = type[Chat] | type[Responses] | type[Messages]
#: By the end of the address.
PROTOCOLS: dict[str, Protocol] = {"/chat/completions": Chat, "/responses": Responses, "/messages": Messages}
_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip


def fault_of(protocol: Protocol, status: int, body: Any) -> Any:
    """An error in the protocol's words."""
    if protocol is not Messages or not isinstance(body, dict) or "error" not in body:
        return body
    kind = body["error"].get("code") or _ERROR_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": body["error"]["message"]}}


def embeddings(request: dict[str, Any], size: int = 8) -> dict[str, Any]:
    """A vector for each input, the same for the same text."""
    given = request.get("input") or []
    texts = [given] if isinstance(given, str) else given
    rows = [{"object": "embedding", "index": n, "embedding": _vector(str(one), size)} for n, one in enumerate(texts)]
    usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
    return {"object": "list", "model": NAME, "data": rows, "usage": usage}


def _vector(text: str, size: int) -> list[float]:
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:size]]


def encoded(event: Event) -> bytes:
    """An event as it goes over the wire."""
    name, data = event
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"
