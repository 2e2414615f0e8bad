"""The one door through which a step asks a model: reserved for before, its use known after.

Whatever kind of step asks (plan, answer, act, chat) does it by :meth:`Meter.ask`; what was used is settled in the
transaction that moves the step on, see ``store.reservations``.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import AgentSysError, ModelFailed, ModelRateLimited, ModelUnavailable
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, ModelResponse, Usage

from .leases import Held
from .store import breakers, reservations, switches
from .store.reservations import Spending


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
            ModelUnavailable, ModelFailed, GoalNotPlannable: see there; of the last model that was asked.
        """
        heard = _Heard(told)
        models = [model, *(other for other in self._fallbacks if other != model)]
        for one, other in pairwise(models):
            try:
                return self._ask(one, request, timeout_s, heard.hear)
            except ModelUnavailable as error:
                if heard.anything:  # whoever follows the run has read the beginning of this answer
                    raise
                with db.lent():
                    switches.tell(self._claim, one, other, error)
        return self._ask(models[-1], request, timeout_s, heard.hear)

    def _ask(self, model: str, request: ModelRequest, timeout_s: float, told: client.Told | None) -> ModelResponse:
        if model == client.OFFLINE:
            return self._answered(client.complete(model, request, timeout_s=timeout_s, told=told))
        with db.lent():
            suspect = breakers.admit(model, timeout_s=timeout_s)
        spending = self._spending
        most = self._reserve(model, request)
        spending.present, spending.unsure = Usage(), spending.reserved
        try:
            capped = replace(request, max_output_tokens=most)
            response = client.complete(model, capped, timeout_s=timeout_s, told=told)
        except (ModelUnavailable, ModelFailed) as error:
            spending.unsure = spending.reserved and error.data.get("cost") is not False
            self._judge(model, error, suspect)
            raise
        if suspect:
            with db.lent():
                breakers.succeeded(model)
        return self._answered(response)

    def _judge(self, model: str, error: AgentSysError, suspect: bool) -> None:
        """A model that is away has failed; one that refuses, or wants us to wait, is there."""
        with db.lent():
            if isinstance(error, ModelUnavailable) and not isinstance(error, ModelRateLimited):
                breakers.failed(model, error)
            elif suspect:
                breakers.succeeded(model)

    def _reserve(self, model: str, request: ModelRequest) -> int | None:
        estimate = client.estimate(model, request, max_output_tokens=settings.MODEL_MAX_TOKENS)
        with db.lent():
            return reservations.reserve(self._claim, estimate, self._spending)

    def _answered(self, response: ModelResponse) -> ModelResponse:
        spending, usage = self._spending, response.usage
        spending.reported += usage
        spending.present = usage
        # A provider that says nothing of what it used is believed to have used what it could.
        spending.unsure = spending.reserved and not usage.input_tokens + usage.output_tokens
        return response


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
