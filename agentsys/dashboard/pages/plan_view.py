"""The plan of a run as the template draws it: boxes and lines, or a grid when there are too many."""

from collections.abc import Iterator, Sequence
from typing import Any

from agentsys.dashboard import graph, links, text
from agentsys.runs.models import Step
from agentsys.runs.states import StepKind

#: A grid of squares stands in for what is too large to be drawn with edges.
CELLS_A_ROW, CELL = 50, 20
#: A drawing up to this wide is shrunk to the page; a wider one is scrolled.
MAX_FITTED = 1_900
MAX_CELLS = 1_000


def of(steps: Sequence[Step]) -> dict[str, Any] | None:
    """The drawing of these steps (in plan order), or None where there are none."""
    if not steps:
        return None
    plan = tuple(_with_parents(steps))
    if not graph.drawable(plan):
        return _grid(steps)
    drawing = graph.draw(plan)
    status = {step.key: step.status for step in steps}
    return {
        "width": drawing.width,
        "height": drawing.height,
        "fits": drawing.width <= MAX_FITTED,
        "nodes": [_node(step, drawing.places[step.key]) for step in steps],
        "lines": [{"path": line.path, "status": status[line.parent]} for line in drawing.lines],
        "box": (graph.NODE_WIDTH, graph.NODE_HEIGHT),
    }


def _with_parents(steps: Sequence[Step]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each step's key and what it waits for: where that is nothing, the planning that added the step."""
    planning = ""
    for step in steps:
        if step.kind == StepKind.PLAN:
            planning = step.key
        elif not step.depends_on and planning:
            yield step.key, (planning,)
            continue
        yield step.key, tuple(step.depends_on)


def _node(step: Step, place: graph.Point) -> dict[str, Any]:
    name = step.title or step.key
    what = step.tool or step.kind
    return {
        "x": place[0],
        "y": place[1],
        "name": text.clip(name, 23),
        "what": text.clip(what, 26),
        "hint": f"{text.clip(name, 200)} — {_state(step)}",
        "status": step.status,
        "is_old": _is_old(step),
        "again": step.attempt if step.attempt > 1 else 0,
        "url": links.to_step(step.pk),
    }


def _is_old(step: Step) -> bool:
    """Whether a new plan has replaced it."""
    return step.reason == "superseded"


def _state(step: Step) -> str:
    return "superseded by a new plan" if _is_old(step) else step.status


def _grid(steps: Sequence[Step]) -> dict[str, Any]:
    cells = [
        {
            "x": number % CELLS_A_ROW * CELL + 2,
            "y": number // CELLS_A_ROW * CELL + 2,
            "hint": f"{step.key} — {_state(step)}",
            "status": step.status,
            "is_old": _is_old(step),
            "url": links.to_step(step.pk),
        }
        for number, step in enumerate(steps[:MAX_CELLS])
    ]
    rows = -(-len(cells) // CELLS_A_ROW)
    return {
        "width": CELLS_A_ROW * CELL,
        "height": rows * CELL,
        "cells": cells,
        "cell": CELL - 4,
        "steps": len(steps),
        "left_out": len(steps) - len(cells),
    }
