"""What models were told, for people: a call with its whole question and answer."""

from uuid import UUID

from agentsys.core.errors import NotFound

from .models import ModelCall
from .store import model_calls


def whole(run_id: UUID, call_id: int) -> ModelCall:
    """A call of a run, with ``request`` (see ``llm.parts.assembled``) and ``response``.  Three queries.

    Raises:
        NotFound: the run has made no such call.
    """
    call = ModelCall.objects.select_related("step").filter(run_id=run_id, pk=call_id).first()
    if call is None:
        raise NotFound
    request, response = model_calls.read(call.workspace_id, call.step_id, call.pk, call.answer)
    call.request, call.response = request, response  # type: ignore[attr-defined]
    return call
