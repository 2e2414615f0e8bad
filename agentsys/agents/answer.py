"""The final answer of a run, from what its steps returned."""

from collections.abc import Mapping
from typing import Any

from agentsys.llm.types import Usage


def make_answer(
    goal: str,
    *,
    model: str,
    outputs: Mapping[str, Any],
    instructions: str,
    output_schema: dict[str, Any] | None,
    timeout_s: float,
) -> tuple[Any, Usage]:
    """Answer ``goal`` from ``outputs`` ({step key: output}), in the shape of ``output_schema`` if given.

    Raises:
        OutputInvalid: the answer still does not match ``output_schema``.
        ModelFailed, ModelUnavailable: as ``llm.client.complete``.
    """
    raise NotImplementedError
