"""What a run answers: the plan's template over the steps' outputs, checked against the run's schema."""

from collections.abc import Mapping
from typing import Any

from agentsys.agents import references
from agentsys.core import schemas
from agentsys.core.errors import AgentSysError

from . import files
from .told import told

#: First names of references that are no steps.
RESERVED = frozenset({"input", "files", "goal"})


def stored(template: Any) -> dict[str, Any]:
    """An answer template as a run's row keeps it: with the keys of the steps that it names."""
    return {"template": template, "keys": sorted(references.names(template) - RESERVED)}


def make(
    answer: Mapping[str, Any] | None, outputs: Mapping[str, Any], run: Mapping[str, Any], *, locked: bool = False
) -> tuple[Any, dict[str, Any] | None]:
    """The result of a run whose steps have ended well, and the error instead if it cannot be made.

    Costs no query unless the template names ``files``.

    Args:
        answer: As :func:`stored` made it, or None.
        outputs: Output by step key; a step that was skipped or failed is None.
        run: ``id``, ``input``, ``goal`` and ``output_schema`` of the run.
        locked: others wait for this run's lock: the check of the schema gets less time.
    """
    try:
        result = _rendered(answer, outputs, run)
        if run["output_schema"] is not None:
            work = schemas.HURRIED_WORK if locked else schemas.MAX_WORK
            schemas.check(result, run["output_schema"], work=work)
    except AgentSysError as error:
        return None, told(error)
    return result, None


def _rendered(answer: Mapping[str, Any] | None, outputs: Mapping[str, Any], run: Mapping[str, Any]) -> Any:
    if answer is None:  # rendered too: that bounds its size
        return references.render({key: f"${{{key}}}" for key in outputs}, outputs)
    template = answer["template"]
    values = {**outputs, "input": run["input"], "goal": run["goal"]}
    if "files" in references.names(template):
        values["files"] = files.texts(run["id"])
    return references.render(template, values)
