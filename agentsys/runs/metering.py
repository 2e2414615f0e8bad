"""The one door through which a step asks a model: reserved for before, its use known after.

Whatever kind of step asks (plan, answer, act, chat) does it by :meth:`Meter.ask`; what was used is settled in the
transaction that moves the step on, see ``store.reservations``.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import (
    AgentSysError,
    ContextOverflow,
    ModelFailed,
    ModelNotFound,
    ModelRateLimited,
    ModelUnavailable,
)
from agentsys.llm import client
from agentsys.llm.compaction import compacted
from agentsys.llm.types import ModelRequest, ModelResponse, Usage

from .leases import Held
from .store import breakers, notices, rates, reservations
from .store.reservations import Spending

#: What another model may do better.
ELSEWHERE = (ModelUnavailable, ModelNotFound, ContextOverflow)


class Meter:
    """The model calls of one attempt.  Made before the first of them; ``held.spending`` is what they have used.

    ``fallbacks`` are the models that are asked, in this order, when the first cannot answer and has not begun to.
    """

    def __init__(self, held: Held, fallbacks: Sequence[str] = ()) -> None:
        self._claim, self._fallbacks = held.claim, fallbacks
        self._spending = held.spending = Spending()

    @property
    def holds(self) -> bool:
        """Whether something is to be settled."""
        return self._spending.reserved

    def ask(
        self, model: str, request: ModelRequest, *, timeout_s: float, told: client.Told | None = None
    ) -> ModelResponse:
        """As ``llm.client.complete``, within every budget.  Costs two round trips more, and none for the offline model.

        Raises:
            BudgetExhausted: there is no room for the call; it was not made.
            LeaseLost, DatabaseUnavailable: nor was it.
            ModelUnavailable, ModelFailed, GoalNotPlannable: see there; of several models, the one that may answer
                soonest.
        """
        heard, refused = _Heard(told), list[AgentSysError]()
        models = [model, *(other for other in self._fallbacks if other != model)]
        for one, other in zip_longest(models, models[1:]):
            try:
                return self._ask_what_fits(one, request, timeout_s, heard.hear)
            except ELSEWHERE as error:
                refused.append(error)
                if other is None or heard.anything:  # whoever follows the run has read the beginning of this answer
                    raise min(refused, key=_hopeless) from None
                with db.lent():
                    notices.switched(self._claim, one, other, error)
        raise AssertionError("there is a first model")

    def _ask_what_fits(
        self, model: str, request: ModelRequest, timeout_s: float, told: client.Told | None
    ) -> ModelResponse:
        """What is too long for the model is made shorter once."""
        try:
            return self._ask(model, request, timeout_s, told)
        except ContextOverflow as error:
            shorter = compacted(request)
            if shorter == request:
                raise
            with db.lent():
                notices.compacted(self._claim, model, error)
        return self._ask(model, shorter, timeout_s, told)

    def _ask(self, model: str, request: ModelRequest, timeout_s: float, told: client.Told | None) -> ModelResponse:
        if model == client.OFFLINE:
            response = client.complete(model, request, timeout_s=timeout_s, told=told)
            self._answered(response)
            return response
        with db.lent():
            suspect = breakers.admit(model, timeout_s=timeout_s)
            most, call = self._make_room(model, request)
        try:
            capped = replace(request, max_output_tokens=most)
            response = client.complete(model, capped, timeout_s=timeout_s, told=told)
        except (ModelUnavailable, ModelFailed) as error:
            self._charge(error)
            with db.lent():
                self._judge(model, error, suspect)
                rates.settle(call, self._used())
            raise
        self._answered(response)
        if suspect or call is not None:
            with db.lent():
                rates.settle(call, self._used())
                if suspect:
                    breakers.succeeded(model)
        return response

    def _make_room(self, model: str, request: ModelRequest) -> tuple[int | None, int | None]:
        """In every budget, and in the minute of the model's account."""
        spending = self._spending
        estimate = client.estimate(model, request, max_output_tokens=settings.MODEL_MAX_TOKENS)
        most = reservations.reserve(self._claim, estimate, spending)
        spending.present, spending.unsure = Usage(), False
        call = rates.admit(self._claim, model, estimate)
        spending.unsure = spending.reserved
        return most, call

    def _charge(self, error: AgentSysError) -> None:
        """An answer that is none may have cost what one costs."""
        spending = self._spending
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

    def _used(self) -> int | None:
        """Tokens of the present call; None: nobody knows."""
        present = self._spending.present
        return None if self._spending.unsure else present.input_tokens + present.output_tokens

    def _answered(self, response: ModelResponse) -> None:
        spending, usage = self._spending, response.usage
        spending.reported += usage
        spending.present = usage
        # A provider that says nothing of what it used is believed to have used what it could.
        spending.unsure = spending.reserved and not usage.input_tokens + usage.output_tokens


class _Heard:
    """Whether a model has begun to answer."""

    def __init__(self, told: client.Told | None) -> None:
        self._told, self.anything = told, False

    @property
    def hear(self) -> client.Told | None:
        return self._hear if self._told else None

    def _hear(self, text: str) -> None:
        self.anything = True
        if self._told:
            self._told(text)


def _hopeless(error: AgentSysError) -> tuple[bool, bool, float]:
    """The least of several is the one after which it is best to try again."""
    return not error.retryable, error.uses_attempt, error.data.get("retry_after_s") or 0.0
