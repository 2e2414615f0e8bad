"""Language models over the network, by pydantic-ai's ``direct`` API: one request, no retries.

Imported by a dotted name and in workers only (``llm.client.load``).  The libraries' own clients retry
twice unseen; they are built with no retries, so that every attempt is one the engine counted.
"""

import logging
import os
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from anthropic import AsyncAnthropic
from django.conf import settings
from genai_prices import calc_price
from openai import AsyncOpenAI
from pydantic_ai import direct, exceptions, messages
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from agentsys.core.errors import ModelUnauthorized
from agentsys.llm import provider_errors, wire
from agentsys.llm.pieces import Pieces
from agentsys.llm.types import ModelRequest, ModelResponse, Usage
from agentsys.llm.whole import WholeChat, WholeOllama

logger = logging.getLogger(__name__)
#: The prices that are known here, with the version that has them.
_PRICES = f"genai-prices {version('genai-prices')}"
OLLAMA_URL = "http://127.0.0.1:11434/v1"


async def ask(
    prefix: str, name: str, request: ModelRequest, timeout_s: float, told: Callable[[str], None] | None = None
) -> ModelResponse:
    """One request to the model ``name`` of the provider ``prefix``.

    Args:
        told: is given the pieces of an answer in text as they come, on the loop's thread; must be quick.

    Raises:
        ModelUnavailable, ModelFailed, ModelAccountFailed: see ``llm.client.complete``.
    """
    model = _model(prefix, name)
    try:
        response = await _request(model, request, timeout_s, told)
    except (exceptions.ModelAPIError, exceptions.UnexpectedModelBehavior) as error:
        raise provider_errors.of(prefix, name, error) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # the library trusts what it reads
        logger.warning("%s:%s answered with what cannot be read", prefix, name, exc_info=True)
        raise provider_errors.unreadable(f"{prefix}:{name}", error) from error
    usage, priced_by = _usage(prefix, name, response)
    provider_errors.check_is_whole(f"{prefix}:{name}", response, usage)
    return ModelResponse(wire.output_of(request, response), usage, f"{prefix}:{name}", priced_by)


async def _request(
    model: Model[Any], request: ModelRequest, timeout_s: float, told: Callable[[str], None] | None
) -> messages.ModelResponse:
    asked = wire.messages_of(request)
    limits = _settings(request, timeout_s)
    parameters = wire.parameters_of(request)
    if told is None or request.purpose == "act" or request.output_schema is not None:  # nothing a person would read
        return await direct.model_request(model, asked, model_settings=limits, model_request_parameters=parameters)
    pieces = Pieces(told)
    async with direct.model_request_stream(
        model, asked, model_settings=limits, model_request_parameters=parameters
    ) as stream:
        async for event in stream:
            pieces.add(_text_of(event))
    pieces.flush()
    return stream.get()


def _text_of(event: messages.ModelResponseStreamEvent) -> str:
    """What an event adds to the answer's text."""
    if isinstance(event, messages.PartStartEvent) and isinstance(event.part, messages.TextPart):
        return event.part.content
    if isinstance(event, messages.PartDeltaEvent) and isinstance(event.delta, messages.TextPartDelta):
        return event.delta.content_delta
    return ""


def price(prefix: str, name: str, input_tokens: int, output_tokens: int) -> tuple[Decimal, Decimal]:
    """Dollars for all of the input, and for each token of the output, of a call of this size; 0 if nobody knows."""
    provider = "openai" if prefix == "openai-chat" else prefix
    try:
        whole = calc_price(
            RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens), name, provider_id=provider
        )
    except (LookupError, ValueError):
        return Decimal(0), Decimal(0)
    return whole.input_price, whole.output_price / max(1, output_tokens)


def _settings(request: ModelRequest, timeout_s: float) -> ModelSettings:
    made = ModelSettings(request_timeout=timeout_s, timeout=timeout_s)  # the clients retry nothing, see _cached_model
    if request.max_output_tokens is not None:
        made["max_tokens"] = request.max_output_tokens
    return made


def _model(prefix: str, name: str) -> Model[Any]:
    url, key = _account(prefix)
    return _cached_model(prefix, name, url, key, os.getpid())


def _account(prefix: str) -> tuple[str | None, str]:
    if prefix == "anthropic":
        return settings.ANTHROPIC_BASE_URL or None, _key("ANTHROPIC_API_KEY", needed=True)
    if prefix == "ollama":
        return settings.OLLAMA_BASE_URL or OLLAMA_URL, _key("OLLAMA_API_KEY", needed=False)
    url = settings.OPENAI_BASE_URL or None
    return url, _key("OPENAI_API_KEY", needed=url is None)


def _key(variable: str, *, needed: bool) -> str:
    """The key, or a placeholder for the local servers that want none."""
    key: str = getattr(settings, variable)
    if needed and not key:
        raise ModelUnauthorized(
            f"Set {variable} to use this model, or AGENTSYS_MODEL=offline to go without.", cost=False
        )
    return key or "not-needed"


@lru_cache(maxsize=32)
def _cached_model(prefix: str, name: str, url: str | None, key: str, _pid: int) -> Model[Any]:
    """The process id is a part of the key because connections must not be shared over a fork."""
    if prefix == "anthropic":
        claude = AsyncAnthropic(base_url=url, api_key=key, max_retries=0)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=claude))
    client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
    if prefix == "ollama":
        return WholeOllama(name, provider=OllamaProvider(openai_client=client))
    provider = OpenAIProvider(openai_client=client)
    return (WholeChat if prefix == "openai-chat" else OpenAIResponsesModel)(name, provider=provider)


def _usage(prefix: str, name: str, response: messages.ModelResponse) -> tuple[Usage, str]:
    """What it used, and where the price comes from."""
    tokens, priced_by = response.usage, _PRICES
    try:
        cost = response.cost().total_price
    except (LookupError, ValueError, AssertionError):  # a gateway has its own name for it: as it was reserved for
        whole, each = price(prefix, name, tokens.input_tokens, tokens.output_tokens)
        cost = whole + each * tokens.output_tokens
        priced_by = _PRICES if cost else ""
    return Usage(tokens.input_tokens, tokens.output_tokens, cost, model_calls=1), priced_by
