"""Where the boxes and lines of a plan go."""

import random
import re

import pytest

from agentsys.dashboard import graph

DIAMOND = (("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c", "a")))


def boxes(drawing):
    return [(x, y, x + graph.NODE_WIDTH, y + graph.NODE_HEIGHT) for x, y in drawing.places.values()]


def random_plan(seed, size=60):
    dice = random.Random(seed)
    return tuple(
        (f"s{n}", tuple({f"s{dice.randrange(max(0, n - 8), n)}" for _ in range(dice.randrange(3))}) if n else ())
        for n in range(size)
    )


@pytest.mark.parametrize("plan", [DIAMOND, (("a", ()),), (("a", ()), ("b", ())), *map(random_plan, range(10))])
def test_boxes_lie_apart_and_within_the_drawing_and_lines_go_to_the_right(plan):
    assert graph.drawable(plan)
    drawing = graph.draw(plan)

    assert set(drawing.places) == {key for key, _ in plan}
    for number, (left, top, right, bottom) in enumerate(boxes(drawing)):
        assert left >= 0
        assert top >= 0
        assert right <= drawing.width
        assert bottom <= drawing.height
        for other in boxes(drawing)[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for line in drawing.lines:
        assert drawing.places[line.parent][0] + graph.NODE_WIDTH < drawing.places[line.child][0]


def test_every_edge_is_one_line_from_box_to_box():
    drawing = graph.draw(DIAMOND)

    assert {(line.parent, line.child) for line in drawing.lines} == {
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
        ("a", "d"),
    }
    for line in drawing.lines:
        points = [float(number) for number in re.findall(r"-?\d+\.\d", line.path)]
        (x, y), (to_x, to_y) = drawing.places[line.parent], drawing.places[line.child]
        half = graph.NODE_HEIGHT / 2
        assert points[:2] == pytest.approx([x + graph.NODE_WIDTH, y + half], abs=0.2)
        assert points[-2:] == pytest.approx([to_x, to_y + half], abs=0.2)
        assert re.fullmatch(r"M[\d. ]+(C[-\d. ]+)+", line.path)


def test_the_same_plan_is_drawn_the_same():
    plan = random_plan(3)

    first = graph.draw(plan)
    graph.draw.cache_clear()

    assert graph.draw(plan) == first


def test_a_dependency_that_is_no_step_is_left_out():
    assert graph.draw((("a", ("input",)),)).lines == []


def test_what_would_take_too_long_is_not_drawn():
    chain = tuple((f"s{n}", (f"s{n - 1}",) if n else ()) for n in range(graph.MAX_STEPS + 1))
    tangle = tuple((f"s{n}", tuple(f"s{m}" for m in range(n))) for n in range(60))

    assert graph.drawable(chain[:-1])
    assert not graph.drawable(chain)
    assert not graph.drawable(tangle)


def test_a_circle_is_not_drawn():
    assert not graph.drawable((("a", ("b",)), ("b", ("a",))))
    assert not graph.drawable((("a", ("a",)),))
