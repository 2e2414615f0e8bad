"""Plans as a seed draws them: small graphs of every kind of step that the engine can do without a model."""

from random import Random
from typing import Any

from agentsys.agents.plan_types import NOTHING, Standing

MAX_STEPS = 6


def draw(rng: Random, standing: Standing = NOTHING) -> dict[str, Any]:
    """A valid plan of 1 to MAX_STEPS steps; some of its steps wait for what stands, and may take keys that are free."""
    steps: list[dict[str, Any]] = []
    free = [key for n in range(MAX_STEPS * 20) if (key := f"s{n}") not in standing.known | standing.taken]
    for key in free[: rng.randint(1, MAX_STEPS)]:
        before = [*sorted(standing.known), *(step["key"] for step in steps)]
        parents = rng.sample(before, min(len(before), rng.choice((0, 1, 1, 2))))
        steps.append(_step(rng, key, parents))
    return {"steps": steps}


def limits(rng: Random, steps: int) -> dict[str, float]:
    """Limits that some of the runs reach; a call wants up to 500 tokens."""
    drawn = {
        "tokens": rng.choice((400, 700, 2_000)),
        "cost_usd": rng.choice((0.0005, 0.01)),
        "steps": steps + rng.randint(0, 2),
        "time_s": 600,
        "parallel": rng.randint(1, 3),
    }
    return {name: value for name, value in drawn.items() if rng.random() < 0.3}


def _step(rng: Random, key: str, parents: list[str]) -> dict[str, Any]:
    step: dict[str, Any] = {"key": key, "depends_on": parents, "max_attempts": rng.randint(1, 3)}
    step["on_error"] = rng.choice(("fail", "continue", "continue"))
    step["if_failed"] = rng.choice(("skip", "null"))
    kind = rng.choices(("echo", "charge", "answer", "wait", "ask"), weights=(6, 4, 3, 1, 1))[0]
    if kind == "wait":
        return {**step, "kind": "wait", "arguments": {"seconds": 60}}
    if kind == "answer":
        return {**step, "kind": "answer", "objective": "Say something."}
    if kind == "ask":
        return {**step, "kind": "ask", "objective": "Which one?"}
    arguments = {"value": [f"${{{parent}}}" for parent in parents]} if kind == "echo" else {}
    return {**step, "tool": f"test.{kind}", "arguments": arguments, "approval": rng.random() < 0.15}
