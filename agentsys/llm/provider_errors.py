"""What a provider's failure means to a run, in the catalogue's errors; workers only, as :mod:`providers`."""

from http import HTTPStatus

from pydantic_ai import exceptions, messages

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
from agentsys.llm.keys import own_keys
from agentsys.llm.types import Usage

#: The first that fits; all after which the same request may succeed later come first.
_KINDS: tuple[tuple[type[exceptions.AgentRunError], type[AgentSysError]], ...] = (
    (exceptions.ModelRateLimitError, ModelRateLimited),
    (exceptions.ModelOverloadedError, ModelOverloaded),
    (exceptions.ModelUnavailableError, ModelUnavailable),
    (exceptions.ModelServerError, ModelUnavailable),
    (exceptions.ModelConnectionError, ModelUnavailable),
    (exceptions.ModelRequestTimeout, ModelUnavailable),
    (exceptions.ModelQuotaExceededError, ModelQuotaExhausted),
    (exceptions.ModelAuthenticationError, ModelUnauthorized),
    (exceptions.ModelContextWindowExceededError, ContextOverflow),
    (exceptions.ModelNotFoundError, ModelNotFound),
    (exceptions.ContentFilterError, ModelRefused),
    (exceptions.AgentRunError, ModelFailed),
)
#: Why an answer ended, in words that the library does not know: of gateways and of servers of open models.
_ENDS = {
    **dict.fromkeys(("error", "network_error", "insufficient_system_resource", "timeout"), "error"),
    **dict.fromkeys(("abort", "aborted", "cancelled", "canceled", "pause_turn"), "error"),
    **dict.fromkeys(("max_tokens", "model_length", "max_length", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("sensitive", "safety", "recitation", "blocklist", "prohibited_content", "spii"), "content_filter"),
}
#: Of a refusal's text, in characters.
MAX_SAID_CHARS = 300


def of(prefix: str, name: str, error: exceptions.AgentRunError) -> AgentSysError:
    """``data["cost"]`` is False where the call surely cost nothing."""
    kind = _kind(error)
    model = f"{prefix}:{name}"
    if kind is ModelUnavailable and _is_unreadable(error):
        return unreadable(model, error)
    if issubclass(kind, ModelUnavailable):
        return kind(
            f"{model} could not answer now: {_reason(error)}.",
            model=model,
            retry_after_s=getattr(error, "retry_after", None),
            cost=_may_have_cost(error),
        )
    return kind(
        f"{model} refused the request: {_reason(error)}. {_advice(prefix, error)}",
        model=model,
        cost=_may_have_cost(error),
    )


def _kind(error: exceptions.AgentRunError) -> type[AgentSysError]:
    found = next(ours for theirs, ours in _KINDS if isinstance(error, theirs))
    if found is not ModelFailed:
        return found
    body = getattr(error, "body", None)
    if isinstance(body, dict) and body.get("code") == "content_filter":
        return ModelRefused
    if getattr(error, "status_code", None) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ContextOverflow
    return ModelUnavailable if _is_unreadable(error) else ModelFailed


def _is_unreadable(error: exceptions.AgentRunError) -> bool:
    """The page of a proxy, say, where an answer belongs."""
    return isinstance(error, exceptions.UnexpectedModelBehavior) or type(error) is exceptions.ModelAPIError


def unreadable(model: str, error: Exception) -> ModelUnavailable:
    """Something answered that does not speak the protocol, or not just now."""
    return ModelUnavailable(f"{model} answered with what cannot be read ({type(error).__name__}).", model=model)


def check_is_whole(model: str, response: messages.ModelResponse, usage: Usage) -> None:
    """An answer that is none, though it came without an error.

    Raises:
        ModelRefused, AnswerCut, ModelUnavailable: declined, cut, or broken off; ``data["usage"]`` is what it used.
    """
    data, end = {"model": model, "usage": usage.as_data()}, _end(response)
    if end == "content_filter":
        raise ModelRefused(f"{model} declined to answer{_said(response)}.", **data)
    if end == "length":
        raise AnswerCut(
            f"{model} was cut off after {usage.output_tokens:,} tokens of an answer."
            " Raise AGENTSYS_MODEL_MAX_TOKENS, or the budget that leaves it no more.",
            **data,
        )
    if end == "error" or response.state in ("incomplete", "interrupted"):
        raise ModelUnavailable(f"{model} broke off in the middle of its answer.", **data)


def _end(response: messages.ModelResponse) -> str:
    """Why it ended; without any reason it was broken off."""
    own = str((response.provider_details or {}).get("finish_reason") or "").lower()
    return _ENDS.get(own) or response.finish_reason or ("stop" if own else "error")


def _said(response: messages.ModelResponse) -> str:
    said = (response.provider_details or {}).get("refusal")
    return f": {said[:MAX_SAID_CHARS]}" if isinstance(said, str) and said else ""


def _may_have_cost(error: exceptions.AgentRunError) -> bool:
    """Nothing was written for a request that never left, or that the provider answered with an error."""
    if isinstance(error, exceptions.ModelConnectionError):
        return error.phase not in ("pool", "connect")
    return getattr(error, "status_code", None) is None or bool(getattr(error, "in_stream", False))


def _advice(prefix: str, error: exceptions.AgentRunError) -> str:
    account = prefix.partition("-")[0].upper()
    if isinstance(error, exceptions.ModelQuotaExceededError):
        return f"The account of {account}_API_KEY has no quota left."
    if isinstance(error, exceptions.ModelAuthenticationError):
        return f"Check {account}_API_KEY."
    if isinstance(error, exceptions.ModelNotFoundError):
        return f"Check the model's name and {account}_BASE_URL."
    if isinstance(error, exceptions.ModelContextWindowExceededError):
        return "It is longer than the model can read."
    return "The same request will fail again."


def _reason(error: exceptions.AgentRunError) -> str:
    """Short and without the provider's whole body, which may repeat the prompt, and without the key."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    detail = body.get("message") if isinstance(body, dict) else None
    text = f"HTTP {status}" if status else type(error).__name__
    return f"{text}: {own_keys().text(detail)[:300]}" if isinstance(detail, str) else text
