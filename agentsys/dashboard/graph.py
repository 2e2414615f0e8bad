"""A plan as a drawing: where its steps and edges go.  Pure geometry; colours and texts are the template's.

grandalf (Sugiyama) orders the layers and routes long edges; it draws downwards, we read from left to
right, so its axes are swapped.  A plan that would make it work for longer than a page may take is not
drawn with edges at all, see :func:`drawable`.  Two things of grandalf are not used: its ``Graph``, which
keeps edges in a set and so draws the same plan otherwise in the next process, and its search for cycles,
which keeps its place in a class attribute that threads would share; a plan has no cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from grandalf.graphs import Edge, Vertex, graph_core
from grandalf.layouts import SugiyamaLayout

NODE_WIDTH, NODE_HEIGHT = 204, 50
GAP_X, GAP_Y, MARGIN = 54, 16, 12
#: Bounds of what is drawn with edges.  At both of them the layout takes about 0.3 s, once a plan.
MAX_STEPS = 200
MAX_SPANS = 1_500  # layers that all edges together cross

#: A step's key, and the keys of the steps it waits for.
Plan = tuple[tuple[str, tuple[str, ...]], ...]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """An edge; ``path`` is the ``d`` of an SVG path."""

    parent: str
    child: str
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """``places`` has each step's upper left corner; everything is within ``width`` by ``height`` units."""

    places: Mapping[str, Point]
    lines: Sequence[Line]
    width: int
    height: int


class _Box:
    """A step as grandalf sees it: its axes are ours, swapped."""

    w, h = NODE_HEIGHT, NODE_WIDTH
    xy: Point = (0.0, 0.0)


class _Route:
    points: Sequence[Point] = ()

    def setpath(self, points: Sequence[Point]) -> None:
        self.points = tuple(points)


def drawable(plan: Plan) -> bool:
    """Whether the plan is small enough to be drawn with its edges."""
    if len(plan) > MAX_STEPS:
        return False
    layer = _layers(plan)
    return (
        len(layer) == len(plan)
        and sum(layer[key] - layer[parent] for key, parents in plan for parent in parents if parent in layer)
        <= MAX_SPANS
    )


@lru_cache(maxsize=128)
def draw(plan: Plan) -> Drawing:
    """Lay a :func:`drawable` plan out.  Cached: a page that refreshes asks for the same plan each time."""
    vertices = {key: Vertex(key) for key, _ in plan}
    for vertex in vertices.values():
        vertex.view = _Box()
    edges = [Edge(vertices[parent], vertices[key]) for key, parents in plan for parent in parents if parent in vertices]
    for edge in edges:
        edge.view = _Route()
    height = _arrange(_parts(list(vertices.values()), edges))
    places = {key: _corner(vertex.view.xy) for key, vertex in vertices.items()}
    width = max((x for x, _ in places.values()), default=0) + NODE_WIDTH + MARGIN
    return Drawing(places, [_line(edge) for edge in edges], round(width), round(height))


def _layers(plan: Plan) -> dict[str, int]:
    """The layer of each step, from 0; steps on a cycle or behind one are left out."""
    known = {key for key, _ in plan}
    waiting = {key: {parent for parent in parents if parent in known} for key, parents in plan}
    layer: dict[str, int] = {}
    depth = 0
    while free := [key for key, parents in waiting.items() if not parents]:
        layer.update(dict.fromkeys(free, depth))
        for key in free:
            del waiting[key]
        for parents in waiting.values():
            parents.difference_update(free)
        depth += 1
    return layer


def _parts(vertices: Sequence[Any], edges: Sequence[Any]) -> list[tuple[list[Any], list[Any]]]:
    """Vertices and edges of each connected part, in the order of the plan."""
    group = {vertex: [vertex] for vertex in vertices}
    for edge in edges:
        one, other = (group[end] for end in edge.v)
        if one is not other:
            one.extend(other)
            group.update(dict.fromkeys(other, one))
    order = {vertex: number for number, vertex in enumerate(vertices)}
    parts = {id(members): sorted(members, key=order.__getitem__) for members in group.values()}
    return [(members, [edge for edge in edges if group[edge.v[0]] is group[members[0]]]) for members in parts.values()]


def _arrange(parts: Sequence[tuple[list[Any], list[Any]]]) -> float:
    """Place the parts, one below the other.  Returns the height of all."""
    top = float(MARGIN)
    for vertices, edges in parts:
        part = graph_core(vertices, edges)
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace = GAP_Y, GAP_X
        layout.dw, layout.dh = GAP_Y, NODE_WIDTH  # room that a long edge takes in the layers it crosses
        layout.init_all(inverted_edges=[])
        layout.draw(3)
        top = _move_below(edges, layout, top)
    return max(top - GAP_Y + MARGIN, NODE_HEIGHT)


def _move_below(edges: Sequence[Any], layout: Any, top: float) -> float:
    boxes = [vertex.view for vertex in layout.grx]
    shift = top - min(box.xy[0] - box.w / 2 for box in boxes)
    bottom = shift + max(box.xy[0] + box.w / 2 for box in boxes)
    for box in boxes:
        box.xy = (box.xy[0] + shift, box.xy[1] + MARGIN)
    for edge in edges:
        edge.view.points = [(x + shift, y + MARGIN) for x, y in edge.view.points]
    return bottom + GAP_Y


def _corner(center: Point) -> Point:
    across, along = center
    return round(along - NODE_WIDTH / 2, 1), round(across - NODE_HEIGHT / 2, 1)


def _line(edge: Any) -> Line:
    points = [(along, across) for across, along in edge.view.points]
    (x, y), (end_x, end_y) = points[0], points[-1]
    points = [(x + NODE_WIDTH / 2, y), *points[1:-1], (end_x - NODE_WIDTH / 2, end_y)]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(_curve(*pair) for pair in pairwise(points))
    return Line(edge.v[0].data, edge.v[1].data, path)


def _curve(start: Point, end: Point) -> str:
    """Leaves and arrives level."""
    (x, y), (end_x, end_y) = start, end
    middle = (x + end_x) / 2
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}"
