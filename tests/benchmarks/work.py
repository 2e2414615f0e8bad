"""The step of every workload: build 1 KiB of JSON afresh."""

import json
from typing import Any

from agentsys.tools import tool

CHAIN = 10
FAN = 50


def payload() -> Any:
    return json.loads(json.dumps({"ok": True, "data": "x" * 1000}))


@tool(effect="pure", lane="compute", name="bench.step", timeout_s=10)
def step(after: Any = None) -> Any:
    """Build 1 KiB of JSON."""
    return payload()


def chain(length: int = CHAIN) -> dict[str, Any]:
    """A plan of steps that run one after the other."""
    keys = [f"s{n}" for n in range(length)]
    return {
        "steps": [
            {"key": key, "tool": "bench.step", "depends_on": keys[n - 1 : n] if n else []} for n, key in enumerate(keys)
        ]
    }


def fan(width: int = FAN) -> dict[str, Any]:
    """A plan of one step, ``width`` beside each other, and one that waits for all of these."""
    beside = [f"s{n}" for n in range(width)]
    steps = [
        {"key": "first", "tool": "bench.step"},
        *({"key": key, "tool": "bench.step", "depends_on": ["first"]} for key in beside),
        {"key": "last", "tool": "bench.step", "depends_on": beside},
    ]
    return {"steps": steps, "answer": "done"}
