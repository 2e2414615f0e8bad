"""The order of steps: cycles, layers, ends.  Everything here is linear in steps and dependencies."""

from collections.abc import Mapping, Sequence

from agentsys.agents.plan_types import Plan

Graph = Mapping[str, Sequence[str]]  # key -> keys it depends on, all of them keys of the graph too


def layers(plan: Plan) -> list[list[str]]:
    """Keys by distance from the start: each step is in the first layer after all it depends on."""
    keys = {step.key for step in plan.steps}
    return _layers({step.key: [key for key in step.depends_on if key in keys] for step in plan.steps})


def terminal_keys(plan: Plan) -> tuple[str, ...]:
    """Keys of the steps nobody depends on, in the plan's order: their outputs are the default result."""
    needed = {key for step in plan.steps for key in step.depends_on}
    return tuple(step.key for step in plan.steps if step.key not in needed)


def cycles(graph: Graph) -> list[list[str]]:
    """Circles of keys, each in the direction of its dependencies; none if the graph can run.

    Not every circle of a tangle, but at least one of each: enough to see what to cut.
    """
    stuck = graph.keys() - {key for layer in _layers(graph) for key in layer}
    seen: set[str] = set()
    found = []
    for key in graph:  # not the set: the answer must not depend on hashing
        if key in stuck and key not in seen:
            found.append(_walk(key, graph, stuck, seen))
    return [cycle for cycle in found if cycle]


def _layers(graph: Graph) -> list[list[str]]:
    """Layers of all that can run; what is in a circle or behind one is left out."""
    waiting = {key: len(set(needs)) for key, needs in graph.items()}
    dependents: dict[str, list[str]] = {key: [] for key in graph}
    for key, needs in graph.items():
        for need in dict.fromkeys(needs):
            dependents[need].append(key)
    found, layer = [], [key for key, count in waiting.items() if count == 0]
    while layer:
        found.append(layer)
        layer = _freed(layer, dependents, waiting)
    return found


def _freed(done: list[str], dependents: Mapping[str, list[str]], waiting: dict[str, int]) -> list[str]:
    freed = []
    for key in done:
        for dependent in dependents[key]:
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                freed.append(dependent)
    return freed


def _walk(key: str, graph: Graph, stuck: set[str], seen: set[str]) -> list[str]:
    """Follow stuck dependencies until one repeats; a stuck step always has one.

    Returns [] if the walk ends in what an earlier walk has seen.
    """
    place: dict[str, int] = {}
    while key not in seen:
        seen.add(key)
        place[key] = len(place)
        key = next(need for need in graph[key] if need in stuck)
    return list(place)[place[key] :] if key in place else []
