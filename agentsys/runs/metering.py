"""The one door through which a step asks a model: reserved for before, its use known after.

Whatever kind of step asks (plan, answer, act, chat) does it by :meth:`Meter.ask`; what was used is settled in the
transaction that moves the step on, see ``store.reservations``.
"""

from dataclasses import replace

from django.conf import settings

from agentsys.core import db
from agentsys.core.errors import ModelFailed, ModelUnavailable
from agentsys.llm import client
from agentsys.llm.types import ModelRequest, ModelResponse, Usage

from .leases import Held
from .store import reservations
from .store.reservations import Spending


class Meter:
    """The model calls of one attempt.  Made before the first of them; ``held.spending`` is what they have used."""

    def __init__(self, held: Held) -> None:
        self._claim = held.claim
        self._spending = held.spending = Spending()

    @property
    def holds(self) -> bool:
        """Whether something is to be settled."""
        return self._spending.reserved

    def ask(
        self, model: str, request: ModelRequest, *, timeout_s: float, told: client.Told | None = None
    ) -> ModelResponse:
        """As ``llm.client.complete``, within every budget.  Costs one round trip more, and none for the offline model.

        Raises:
            BudgetExhausted: there is no room for the call; it was not made.
            LeaseLost, DatabaseUnavailable: nor was it.
            ModelUnavailable, ModelFailed, GoalNotPlannable: see there.
        """
        if model == client.OFFLINE:
            return self._answered(client.complete(model, request, timeout_s=timeout_s, told=told))
        spending = self._spending
        most = self._reserve(model, request)
        spending.present, spending.unsure = Usage(), spending.reserved
        try:
            capped = replace(request, max_output_tokens=most)
            response = client.complete(model, capped, timeout_s=timeout_s, told=told)
        except (ModelUnavailable, ModelFailed) as error:
            spending.unsure = spending.reserved and error.data.get("cost") is not False
            raise
        return self._answered(response)

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
