"""One fault at every point of a shape: point 0, 1, 2… until a run passes fewer points than that."""

import os
from collections.abc import Callable

from agentsys.agents.models import Agent
from tests.failpoints import faults, shapes
from tests.failpoints.faults import Fault
from tests.failpoints.play import Play, check
from tests.failpoints.points import Points

#: ``FAILPOINTS=all`` plays every fault on every shape.
ALL = os.environ.get("FAILPOINTS") == "all"
SHAPES = {**shapes.SHAPES, **(shapes.MORE if ALL else {})}
FAULTS = (*faults.OF_CONNECTIONS, *(faults.MORE if ALL else ()))
MOST = 500


#: What a test says of itself: its shape, its fault, and how many points there were.
Note = Callable[[str, object], None]


def play_everywhere(agent: Agent, shape: str, fault: Fault, go: Callable[[Play, Points], bool], note: Note) -> int:
    """How many points there were; ``go`` says whether the fault was played."""
    for at in range(MOST):
        play, points = Play(agent, SHAPES[shape]), Points(at, fault)
        try:
            if not go(play, points):
                note("failpoints", (shape, fault.__name__, at))
                return at
            check(play)
        except Exception as error:
            where = f"{shape}: {fault.__name__} at point {at} ({points.fired}), run {play.key}"
            raise AssertionError(f"{where}, after {points.passed[:at]}") from error
    raise AssertionError(f"more than {MOST} points")
