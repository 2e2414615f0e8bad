"""Calls of models, one after the other, of one attempt: within every budget and minute, and written down.

What was used is settled in the transaction that moves the step on, see ``store.reservations``.
"""

import logging
import time
from dataclasses import replace

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import (
    AgentSysError,
    DatabaseUnavailable,
    ModelAccountFailed,
    ModelFailed,
    ModelRateLimited,
    ModelUnavailable,
)
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, ModelResponse, Usage

from .leases import Held
from .store import breakers, model_calls, rates, reservations
from .store.model_calls import Asked, Came
from .store.reservations import Spending

logger = logging.getLogger(__name__)


class Calls:
    """``held.spending`` is what they have used; answers younger than ``cache_s`` to the very same are taken again."""

    def __init__(self, held: Held, cache_s: float) -> None:
        self._claim, self._cache_s, self._number = held.claim, cache_s, 0
        self.spending = held.spending = Spending()

    def make(self, model: str, request: ModelRequest, timeout_s: float, told: client.Told | None) -> ModelResponse:
        """Ask ``model`` once; see ``Meter.ask``.  The offline model is asked for nothing, and nothing is kept of it."""
        if model == client.OFFLINE:
            response = client.complete(model, request, timeout_s=timeout_s, told=told)
            self._answered(response)
            return response
        return self._answer_kept(model, request, told) or self._asked(model, request, timeout_s, told)

    def _answer_kept(self, model: str, request: ModelRequest, told: client.Told | None) -> ModelResponse | None:
        if not self._cache_s:
            return None
        asked = Asked.of(model, request)
        with db.lent():
            found = model_calls.answered_before(asked, self._claim.workspace_id, within_s=self._cache_s)
            if found is None:
                return None
            self._record(asked, Came(output=found[0], cached=True))
        if told and isinstance(found[0], str):
            told(found[0])
        return ModelResponse(found[0], Usage(), model)

    def _asked(self, model: str, request: ModelRequest, timeout_s: float, told: client.Told | None) -> ModelResponse:
        with db.lent():
            suspect = breakers.admit(model, timeout_s=timeout_s)
            most, turn = self._make_room(model, request)
        capped, began = replace(request, max_output_tokens=most), time.monotonic()
        try:
            response = client.complete(model, capped, timeout_s=timeout_s, told=told)
        except (ModelUnavailable, ModelFailed, ModelAccountFailed) as error:
            self._charge(error)
            came = Came(error=error, usage=self.spending.present, took_s=time.monotonic() - began)
            self._settled(Asked.of(model, capped), came, turn)
            with db.lent():
                self._judge(model, error, suspect)
            raise
        self._answered(response)
        came = Came(
            output=response.output,
            usage=response.usage,
            priced_by=response.priced_by,
            took_s=time.monotonic() - began,
        )
        self._settled(Asked.of(model, capped), came, turn)
        if suspect:
            with db.lent():
                breakers.succeeded(model)
        return response

    def _make_room(self, model: str, request: ModelRequest) -> tuple[int | None, int | None]:
        """In every budget, and in the minute of the model's account."""
        spending = self.spending
        estimate = client.estimate(model, request, max_output_tokens=settings.MODEL_MAX_TOKENS)
        most = reservations.reserve(self._claim, estimate, spending)
        spending.present, spending.unsure = Usage(), False
        turn = rates.admit(self._claim, model, estimate)
        spending.unsure = spending.reserved
        return most, turn

    def _settled(self, asked: Asked, came: Came, turn: int | None) -> None:
        """What follows from a call for others, and for those who look; an answer is not lost for that."""
        present = self.spending.present
        used = None if self.spending.unsure else present.input_tokens + present.output_tokens
        try:
            with db.lent():
                self._record(asked, came)
                rates.settle(turn, used)
        except DatabaseUnavailable:
            logger.warning("a call of %s by step %s was not written down", asked.model, self._claim.key)

    def _record(self, asked: Asked, came: Came) -> None:
        self._number += 1
        model_calls.record(self._claim, self._number, asked, came)

    def _charge(self, error: AgentSysError) -> None:
        """An answer that is none may have cost what one costs."""
        spending = self.spending
        if told := error.data.get("usage"):
            spending.present = Usage.of_data(told)
            spending.reported += spending.present
        known = bool(told) or error.data.get("cost") is False
        spending.unsure = spending.reserved and not known

    def _judge(self, model: str, error: AgentSysError, suspect: bool) -> None:
        """A model that is away has failed; one that refuses, or wants us to wait, is there."""
        if isinstance(error, ModelUnavailable) and not isinstance(error, ModelRateLimited):
            breakers.failed(model, error)
        elif suspect:
            breakers.succeeded(model)

    def _answered(self, response: ModelResponse) -> None:
        spending, usage = self.spending, response.usage
        spending.reported += usage
        spending.present = usage
        # A provider that says nothing of what it used is believed to have used what it could.
        spending.unsure = spending.reserved and not usage.input_tokens + usage.output_tokens
