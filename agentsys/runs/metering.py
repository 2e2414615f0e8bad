"""The one door through which a step asks a model: reserved for before, its use known after.

Whatever kind of step asks (plan, answer, act, chat) does it by :meth:`Meter.ask`; what was used is settled in the
transaction that moves the step on, see ``store.reservations``.
"""

from collections.abc import Sequence
from itertools import zip_longest

from agentsys.core import db
from agentsys.core.errors import (
    AgentSysError,
    ContextOverflow,
    ModelAccountFailed,
    ModelNotFound,
    ModelUnavailable,
)
from agentsys.llm import client
from agentsys.llm.compaction import compacted
from agentsys.llm.types import ModelRequest, ModelResponse

from .calling import Calls
from .leases import Held
from .store import notices

#: What another model may do better.
ELSEWHERE = (ModelUnavailable, ModelAccountFailed, ModelNotFound, ContextOverflow)


class Meter:
    """The model calls of one attempt.  Made before the first of them; ``held.spending`` is what they have used.

    ``fallbacks`` are the models that are asked, in this order, when the first cannot answer and has not begun to;
    answers younger than ``cache_s`` to the very same are taken again.
    """

    def __init__(self, held: Held, fallbacks: Sequence[str] = (), *, cache_s: float = 0.0) -> None:
        self._claim, self._fallbacks = held.claim, fallbacks
        self._calls = Calls(held, cache_s)

    @property
    def holds(self) -> bool:
        """Whether something is to be settled."""
        return self._calls.spending.reserved

    def ask(
        self, model: str, request: ModelRequest, *, timeout_s: float, told: client.Told | None = None
    ) -> ModelResponse:
        """As ``llm.client.complete``, within every budget.

        Costs four round trips more, and none for the offline model.

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
            return self._calls.make(model, request, timeout_s, told)
        except ContextOverflow as error:
            shorter = compacted(request)
            if shorter == request:
                raise
            with db.lent():
                notices.compacted(self._claim, model, error)
        return self._calls.make(model, shorter, timeout_s, told)


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
