"""Faults in the words of each provider: what a run does of them depends on what they mean.

The forms are those of the providers' public documentation of 2025 and 2026; the texts in them are shortened.
"""

from typing import Any

import pytest

from agentsys.core.errors import (
    AgentSysError,
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
from agentsys.llm import client
from agentsys.llm.scripted import ModelServer, Reply
from agentsys.llm.types import ModelRequest


@pytest.fixture(autouse=True)
def ours(server: ModelServer, settings: Any) -> None:
    settings.ANTHROPIC_BASE_URL = server.url.removesuffix("/v1")
    settings.ANTHROPIC_API_KEY = "sk-test"


def ask(model: str) -> None:
    client.complete(model, ModelRequest(purpose="answer", system="Be brief.", prompt="How many?"), timeout_s=10)


def fault(status: int, body: Any, **headers: str) -> Reply:
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


HTML = {"Content_Type": "text/html"}


def openai_fault(message: str, kind: str | None = None, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def claude_fault(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


TOO_LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
OPENAI, CHAT, CLAUDE, OLLAMA = "openai:m", "openai-chat:m", "anthropic:m", "ollama:m"
FAULTS: dict[str, tuple[str, Reply, type[AgentSysError]]] = {
    "openai: too often": (
        OPENAI,
        fault(429, openai_fault("Rate limit reached for m", "requests", "rate_limit_exceeded")),
        ModelRateLimited,
    ),
    "openai: no quota": (
        CHAT,
        fault(429, openai_fault("You exceeded your quota", "insufficient_quota", "insufficient_quota")),
        ModelQuotaExhausted,
    ),
    "openai: key": (
        CHAT,
        fault(401, openai_fault("Incorrect API key", "invalid_request_error", "invalid_api_key")),
        ModelUnauthorized,
    ),
    "openai: project": (CHAT, fault(403, openai_fault("no access to model m", None, "model_not_found")), ModelNotFound),
    "openai: model": (CHAT, fault(404, openai_fault("no model m", None, "model_not_found")), ModelNotFound),
    "openai: too long": (CHAT, fault(400, openai_fault(TOO_LONG, None, "context_length_exceeded")), ContextOverflow),
    "openai: the window": (
        OPENAI,
        fault(400, openai_fault("It exceeds the context window", None, "context_length_exceeded")),
        ContextOverflow,
    ),
    "vllm: too long": (
        CHAT,
        fault(400, {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "code": 400}),
        ContextOverflow,
    ),
    "azure: filtered": (
        CHAT,
        fault(400, {"error": {"message": "no", "code": "content_filter", "innererror": {}}}),
        ModelRefused,
    ),
    "claude: overloaded": (CLAUDE, fault(529, claude_fault("overloaded_error", "Overloaded")), ModelOverloaded),
    "claude: too often": (
        CLAUDE,
        fault(429, claude_fault("rate_limit_error", "…"), retry_after="12"),
        ModelRateLimited,
    ),
    "claude: too long": (
        CLAUDE,
        fault(400, claude_fault("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")),
        ContextOverflow,
    ),
    "claude: no credit": (
        CLAUDE,
        fault(
            400, claude_fault("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
        ),
        ModelQuotaExhausted,
    ),
    "claude: key": (CLAUDE, fault(401, claude_fault("authentication_error", "invalid x-api-key")), ModelUnauthorized),
    "claude: not allowed": (CLAUDE, fault(403, claude_fault("permission_error", "no")), ModelUnauthorized),
    "claude: model": (CLAUDE, fault(404, claude_fault("not_found_error", "model: m")), ModelNotFound),
    "claude: an error of its own": (
        CLAUDE,
        fault(500, claude_fault("api_error", "Internal server error")),
        ModelUnavailable,
    ),
    "claude: too large": (
        CLAUDE,
        fault(413, claude_fault("request_too_large", "Request exceeds the maximum size")),
        ContextOverflow,
    ),
    "ollama: model": (
        OLLAMA,
        fault(404, openai_fault('model "m" not found, try pulling it first', "api_error")),
        ModelNotFound,
    ),
    "openrouter: no credits": (
        CHAT,
        fault(402, {"error": {"message": "Insufficient credits", "code": 402}}),
        ModelQuotaExhausted,
    ),
    "openrouter: upstream": (
        CHAT,
        fault(502, {"error": {"message": "Provider returned error", "code": 502}}),
        ModelUnavailable,
    ),
    "groq: tokens a minute": (
        CHAT,
        fault(413, openai_fault("Request too large for m on tokens per minute", "tokens", "rate_limit_exceeded")),
        ContextOverflow,
    ),
    "gemini: a list": (
        CHAT,
        fault(429, [{"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}}]),
        ModelRateLimited,
    ),
    "mistral: too often": (CHAT, fault(429, {"message": "Requests rate limit exceeded"}), ModelRateLimited),
    "a page of a proxy": (CHAT, fault(502, b"<html><h1>502 Bad Gateway</h1></html>", **HTML), ModelUnavailable),
    "a proxy's time-out": (CLAUDE, fault(524, b"<html>A timeout occurred</html>", **HTML), ModelUnavailable),
    "a page of a portal": (CHAT, fault(200, b"<html>Log in</html>", **HTML), ModelUnavailable),
    "nothing": (CHAT, fault(200, b""), ModelUnavailable),
    "wrong": (
        CHAT,
        fault(400, openai_fault("Unknown parameter", "invalid_request_error", "unknown_parameter")),
        ModelFailed,
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_are_known_by_the_words_of_each(server: ModelServer, what: str) -> None:
    model, reply, kind = FAULTS[what]
    server.script = [reply]
    with pytest.raises(AgentSysError) as caught:
        ask(model)
    assert type(caught.value) is kind, caught.value.message


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"retry-after": "12"}, 12), ({"retry-after-ms": "1500"}, 1.5), ({"retry-after": "259200"}, 259200)],
)
def test_how_long_to_wait_is_taken_from_the_providers_word(server: ModelServer, headers: Any, wait_s: float) -> None:
    server.script = [Reply(openai_fault("slow down", None, "rate_limit_exceeded"), 429, headers)]
    with pytest.raises(ModelRateLimited) as caught:
        ask(CHAT)
    assert caught.value.data["retry_after_s"] == pytest.approx(wait_s, abs=1)
