"""Runs whose steps are of every effect, in threads, on an event loop and in processes."""

from typing import Any

from tests.chaos.tools import PACE_S

STEPS = 10
_TOOLS = ("chaos.near", "chaos.far", "chaos.charge", "chaos.away", "chaos.order")
_UNSAFE = ("chaos.charge", "chaos.order")


def chain(n: int, *, steps: int = STEPS, seconds: float = PACE_S, timer: bool = True) -> dict[str, Any]:
    """Steps that follow each other, the last but one a timer; ``n`` is the result, and shifts the tools."""
    made: list[dict[str, Any]] = [{"key": "s0", "tool": "chaos.near", "arguments": {"value": n, "seconds": seconds}}]
    for i in range(1, steps):
        before = f"s{i - 1}"
        tool = _TOOLS[(n + i) % len(_TOOLS)]
        value = {"after": before} if tool in _UNSAFE else {"value": f"${{{before}}}"}
        made.append({"key": f"s{i}", "tool": tool, "arguments": {**value, "seconds": seconds}, "depends_on": [before]})
    if timer:
        pause = {"kind": "wait", "arguments": {"seconds": 0.3}}
        made[-2] = {"key": f"s{steps - 2}", "depends_on": [f"s{steps - 3}"], **pause}
    return {"steps": made, "answer": {"first": "${s0}"}}


def single(tool: str, *, max_attempts: int = 5, **arguments: Any) -> dict[str, Any]:
    """One step."""
    step = {"key": "s0", "tool": f"chaos.{tool}", "arguments": arguments, "max_attempts": max_attempts}
    return {"steps": [step]}
