"""A language model with a price, that says what a test tells it to: no network, and real reservations.

``settings.MODEL_PROVIDERS`` and ``MODEL_PRICES`` name :func:`ask` and :func:`price`; fixture ``priced`` does that.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db import connection

from agentsys.llm.types import ModelRequest, ModelResponse, Usage

MODEL = "openai-chat:priced"
#: Dollars a token.
INPUT_USD, OUTPUT_USD = Decimal("0.000001"), Decimal("0.000002")


class Scripted:
    """Answers one by one: a value with its usage, an exception, or a function that gives either when it is called."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[ModelRequest] = []

    def answers(self, value: Any = "said", *, tokens: tuple[int, int] = (100, 50)) -> "Scripted":
        cost = tokens[0] * INPUT_USD + tokens[1] * OUTPUT_USD
        self.script.append(ModelResponse(value, Usage(*tokens, cost, 1), MODEL))
        return self

    def does(self, work: Callable[[], Any] | Exception) -> "Scripted":
        self.script.append(work)
        return self


model = Scripted()


async def ask(prefix: str, name: str, request: ModelRequest, timeout_s: float, told: Any = None) -> ModelResponse:
    model.requests.append(request)
    answer = model.script.pop(0) if model.script else ModelResponse("said", Usage(100, 50, Decimal("0.0002"), 1), MODEL)
    if callable(answer):
        answer = await asyncio.to_thread(_closing, answer)
    if isinstance(answer, Exception):
        raise answer
    found: ModelResponse = answer
    return found


def _closing(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connection.close()


def price(prefix: str, name: str, input_tokens: int, output_tokens: int) -> tuple[Decimal, Decimal]:
    return input_tokens * INPUT_USD, OUTPUT_USD
