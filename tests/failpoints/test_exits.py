"""Whenever a process ends, between any two statements, a run ends as it would have: another goes on with it."""

import os
import warnings

import pytest
from django.db import connection

from tests.failpoints import faults
from tests.failpoints.everywhere import SHAPES, play_everywhere
from tests.failpoints.play import Play
from tests.failpoints.points import Points

pytestmark = pytest.mark.timeout(600)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_process_may_end_at_any_point(agent, shape, record_property):
    def go(play: Play, points: Points) -> bool:
        ended = ends_in_a_child(play, points)
        play.go(Points())
        return ended

    assert play_everywhere(agent, shape, faults.exits, go, record_property) >= SHAPES[shape].points


def ends_in_a_child(play: Play, points: Points) -> bool:
    """Play in a process of its own; whether it ended at its point, or came to the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # no other thread holds a lock that the child needs
        child = os.fork()
    if not child:
        code = 1
        try:
            connection.connection = None  # the parent's
            connection._connection_pools.clear()
            play.go(points)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, faults.EXIT), f"the process failed: {code}"
    return code == faults.EXIT
