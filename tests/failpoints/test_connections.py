"""Whatever happens to a connection at any statement or commit, a run ends as it would have.

What a fault leaves behind is found by workers and sweepers that come later; whoever got no answer asks again.
"""

import pytest

from tests.failpoints.everywhere import FAULTS, SHAPES, play_everywhere
from tests.failpoints.play import Play, check
from tests.failpoints.points import Points

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_points(agent, shape):
    points = Points()
    play = Play(agent, SHAPES[shape])

    play.go(points)

    check(play)
    assert len(points.passed) >= SHAPES[shape].points, points.passed


@pytest.mark.promise("P2")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fault_at_any_point_changes_nothing(agent, shape, fault, record_property):
    def go(play: Play, points: Points) -> bool:
        play.go(points)
        return bool(points.fired)

    assert play_everywhere(agent, shape, fault, go, record_property) >= SHAPES[shape].points
