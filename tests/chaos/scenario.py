"""One scenario: figures while it goes, and at its end the judgement that every one of them has to pass."""

import math
from collections.abc import Sequence
from typing import Any

from tests.chaos import judge
from tests.chaos.faults import Faults
from tests.chaos.world import World


def judged(world: World, ids: Sequence[str], figures: dict[str, Any], *, faults: Faults | None = None) -> None:
    """All runs have ended well, every promise is kept, and nothing was called too often or never."""
    figures |= {"runs": len(ids), "steps": world.value(_STEPS_DONE, list(ids))}
    figures["reaped"] = judge.reaped(world, ids)
    figures["fenced"] = world.logged("was fenced")
    wrong = judge.witness_faults(world, ids)
    figures["witness"] = f"{len(wrong)} wrong" if wrong else "ok"
    done = world.verify()
    figures["verify"] = "WRONG" if done.returncode else "ok"
    late = _recovered(world, ids, faults, figures) if faults else []
    assert wrong == [], wrong
    assert done.returncode == 0, done.stdout + done.stderr
    assert late == [], late


def assert_succeeded(world: World, ids: Sequence[str]) -> None:
    rows = {row["id"]: row for row in world.rows(_ENDS, list(ids))}
    assert [rows[one] for one in ids if rows[one]["status"] != "succeeded"] == []


def _recovered(world: World, ids: Sequence[str], faults: Faults, figures: dict[str, Any]) -> list[str]:
    """What took too long."""
    late = []
    for kind, took_s in judge.recoveries(world, ids, faults.done).items():
        p50, p99 = judge.share(took_s, 0.5), judge.share(took_s, 0.99)
        figures.setdefault("recovery", {})[kind] = {"n": len(took_s), "p50_s": round(p50, 2), "p99_s": round(p99, 2)}
        bound_s = judge.BOUNDS_S.get(kind, math.inf) * judge.SLACK
        if p99 > bound_s:
            late.append(f"{kind}: {p99:.2f} s instead of {bound_s:g} s: {took_s[-5:]}")
    return late


_STEPS_DONE = "SELECT count(*) FROM runs_step WHERE status = 'succeeded' AND run_id = ANY(%s::uuid[])"
_ENDS = "SELECT id::text, status, reason, error, result FROM runs_run WHERE id = ANY(%s::uuid[])"
