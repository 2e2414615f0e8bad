"""What is true after a scenario: by the database, by ``manage.py verify`` and by the witness, which must agree."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.chaos.faults import EVERYTHING, Fault
from tests.chaos.world import LEASE_S, World, size

UNSAFE = ("charge", "order")
#: Seconds from a fault to the new start of what it interrupted, in 99 of 100 cases.
BOUNDS_S = {"child": 2.0, "worker": 5.0, "frozen": LEASE_S + 2, "host": LEASE_S + 2}
#: The short form shares the machine with other tests, and what starts anew is as slow as the machine.
SLACK = size(3, 1, 1)

_STEPS = """
SELECT s.run_id::text || ':' || s.key AS key, s.tool, s.status FROM runs_step s
 WHERE s.run_id = ANY(%s::uuid[]) AND s.kind = 'tool'"""
_CRASHED = """
SELECT a.run_id::text AS run, s.key, s.lane, a.number, split_part(a.worker, '/', 3)::int AS pid
  FROM runs_attempt a JOIN runs_step s ON s.id = a.step_id
 WHERE a.outcome = 'crashed' AND a.run_id = ANY(%s::uuid[])"""
_STARTS = """
SELECT run_id::text AS run, step AS key, (data ->> 'attempt')::int AS number, extract(epoch FROM at)::float8 AS at
  FROM runs_event WHERE type = 'step.started' AND run_id = ANY(%s::uuid[])"""


def witness_faults(world: World, ids: Sequence[str]) -> list[str]:
    """Calls that must not have been, and calls that are missing."""
    calls = Counter(key for *_, key in world.calls())
    wrong = []
    for step in world.rows(_STEPS, list(ids)):
        count, key = calls[step["key"]], step["key"]
        if step["tool"].removeprefix("chaos.") in UNSAFE and count > 1:
            wrong.append(f"{step['tool']} {key} was called {count} times")
        if step["status"] == "succeeded" and not count:
            wrong.append(f"{step['tool']} {key} succeeded and was never called")
    return wrong


def reaped(world: World, ids: Sequence[str]) -> int:
    return len(world.rows(_CRASHED, list(ids)))


def recoveries(world: World, ids: Sequence[str], faults: Sequence[Fault]) -> dict[str, list[float]]:
    """Seconds from each kill of a process to the next start of each step that it had, by kind, sorted.

    Left out: what was hit again, in any way, before it started; and what a person had to decide.
    """
    started = {(row["run"], row["key"], row["number"]): row["at"] for row in world.rows(_STARTS, list(ids))}
    found: dict[str, list[float]] = defaultdict(list)
    for row in world.rows(_CRASHED, list(ids)):
        again = started.get((row["run"], row["key"], row["number"] + 1))
        fault = _cause(row, faults, again) if again else None
        if fault and again and not _disturbed(fault, row["lane"], again, faults):
            found[fault.kind].append(again - fault.at)
    return {kind: sorted(some) for kind, some in found.items()}


def _cause(row: dict[str, Any], faults: Sequence[Fault], until: float) -> Fault | None:
    """The last one before; who was frozen may be so again."""
    return next((fault for fault in reversed(faults) if row["pid"] in fault.pids and fault.at < until), None)


def _disturbed(fault: Fault, lane: str, until: float, faults: Sequence[Fault]) -> bool:
    return any(
        other.lane in (lane, EVERYTHING) and fault.at - 3 < other.at < until and other is not fault for other in faults
    )


def share(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0
