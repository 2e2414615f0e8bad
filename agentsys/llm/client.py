"""The one door to every model: ``offline`` or ``<provider>:<model>``.

The providers' libraries are heavy and belong to workers only, so they are reached by a dotted name
and imported on first use (``load`` does it at a worker's start).
"""

from agentsys.llm.types import ModelRequest, ModelResponse


def complete(model: str, request: ModelRequest, *, timeout_s: float) -> ModelResponse:
    """Ask ``model`` once; blocks the calling thread for at most ``timeout_s`` seconds.

    No retries here: an attempt is the engine's to count.

    Raises:
        ModelUnavailable: overloaded, rate limited, unreachable or too slow (``data["retry_after_s"]``).
        ModelFailed: the request cannot work as it is (unknown model, missing key, refused).
        GoalNotPlannable: the offline model cannot plan a clause of the goal.
    """
    raise NotImplementedError
