"""A step's templates, filled in from what its run has: other steps' outputs, the input, the goal, the files."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from agentsys.agents import references
from agentsys.core import db

from . import files
from .models import Run
from .store.sql import SQL


def rendered(run_id: UUID, template: Any) -> Any:
    """A template with its references filled in.

    Costs nothing without references, else one query for the steps' outputs and one more for the run.
    """
    named = references.names(template)
    if not named:
        return references.render(template, {})
    values: dict[str, Any] = outputs_of(run_id, sorted(named - {"input", "goal", "files"}))
    if named & {"input", "goal"}:
        run = Run.objects.values("input", "goal").get(pk=run_id)
        values |= {"input": run["input"], "goal": run["goal"]}
    if "files" in named:
        values["files"] = files.texts(run_id)
    return references.render(template, values)


def outputs_of(run_id: UUID, keys: Sequence[str]) -> dict[str, Any]:
    """Outputs by step key; one query, none for no keys."""
    if not keys:
        return {}
    return {row["key"]: row["output"] for row in db.rows(SQL["outputs"], run_id=run_id, keys=list(keys))}
