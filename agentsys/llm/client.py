"""The one door to every model: ``offline`` or ``<provider>:<model>``.

The providers' libraries are heavy and belong to workers only: they are reached by the dotted name in
``settings.MODEL_PROVIDERS`` and imported on first use (``load`` does it at a worker's start), so a web
process that only names a model never pays for them.
"""

import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

from agentsys.core import loop
from agentsys.core.errors import ModelUnavailable, StepTimeout
from agentsys.llm import offline
from agentsys.llm.names import OFFLINE, split
from agentsys.llm.types import CallEstimate, ModelRequest, ModelResponse

#: The provider ends the call at the time-out; only if it does not, the loop does so much later, in seconds.
GRACE_S = 1.0

#: Is given an answer's text in pieces, as it is written.
Told = Callable[[str], None]
Ask = Callable[[str, str, ModelRequest, float, Told | None], Coroutine[Any, Any, ModelResponse]]
Price = Callable[[str, str, int, int], tuple[Decimal, Decimal]]

#: Bytes of input a token has at least, in texts and JSON; about four in English, three in Chinese.
BYTES_A_TOKEN = 3
#: What providers add to a message.
FRAME_TOKENS = 50


class Complete(Protocol):
    """:func:`complete`, or what does more around it."""

    def __call__(
        self, model: str, request: ModelRequest, *, timeout_s: float, told: Told | None = None
    ) -> ModelResponse: ...


def complete(model: str, request: ModelRequest, *, timeout_s: float, told: Told | None = None) -> ModelResponse:
    """Ask ``model`` once; blocks the calling thread for at most about ``timeout_s`` seconds.

    No retries here: an attempt is the engine's to count.

    Args:
        told: is given the pieces of an answer in text as they come, on another thread; must be quick and never raise.

    Raises:
        ModelUnavailable: overloaded, rate limited, unreachable or too slow (``data["retry_after_s"]``).  Of this and
            the next, ``data["cost"]`` is False where the call surely cost nothing.
        ModelFailed: the request cannot work as it is (unknown model, too long, refused).
        ModelAccountFailed: the key is missing or not taken, or the account has no quota left.
        GoalNotPlannable: the offline model cannot plan a clause of the goal.
    """
    if model == OFFLINE:
        return offline.respond(request)
    prefix, name = split(model)
    ask = load()
    try:
        return loop.run(ask(prefix, name, request, timeout_s, told), timeout_s=timeout_s + GRACE_S)
    except StepTimeout:
        raise ModelUnavailable(f"{model} did not answer within {loop.seconds(timeout_s)}.", model=model) from None


def estimate(model: str, request: ModelRequest, *, max_output_tokens: int) -> CallEstimate:
    """What asking ``model`` once may use at most.  The offline model uses nothing.

    Of a model without a public price the cost is 0, as it is of its answers.
    """
    if model == OFFLINE:
        return CallEstimate(0, 0)
    tokens = -(-_size_bytes(request) // BYTES_A_TOKEN) + FRAME_TOKENS
    price = cast(Price, import_string(settings.MODEL_PRICES))
    return CallEstimate(tokens, max_output_tokens, *price(*split(model), tokens, max_output_tokens))


def _size_bytes(request: ModelRequest) -> int:
    """Of all that the provider reads."""
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools if request.purpose == "act"]
    turns = [asdict(turn) for turn in request.turns]
    read = [request.system, request.prompt, request.output_schema, tools, turns, request.note]
    return len(json.dumps(read, ensure_ascii=False).encode(errors="replace"))


def load() -> Ask:
    """Import the providers' libraries, once; a worker calls this at its start (about a second)."""
    return cast(Ask, import_string(settings.MODEL_PROVIDERS))


__all__ = ["OFFLINE", "complete", "load", "split"]
