"""Effects that were recorded in the run that another one was forked from: replayed, never made again.

A step whose effect column says ``recorded`` calls nothing.  Its rendered arguments must be those of the call that
the original made; then that call's output is its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from agentsys.core import db
from agentsys.core.errors import AgentSysError, EffectRecorded
from agentsys.core.sanitize import clean
from agentsys.tools.registry import ToolSpec

from .rendering import rendered
from .store.claims import Claim, Result
from .store.sql import SQL

RECORDED = "recorded"


def replay(claim: Claim, arguments: Any) -> Result:
    """The output of the call that the original made with the same rendered arguments.

    Raises:
        EffectRecorded: it made none like this.
    """
    wanted = digest(arguments)
    found = db.rows(SQL["recorded_calls"], run_id=claim.run_id, key=claim.key, kind=claim.kind, tool=claim.tool)
    same = [row for row in found if row["key"] == claim.key]
    for row in same or found:
        if _digest_of(row) == wanted:
            return Result(row["output"])
    raise EffectRecorded(step=claim.key, tool=claim.tool)


def _digest_of(row: db.Row) -> str | None:
    """Of the arguments as they were rendered then: outputs, input and goal of that run never change."""
    try:
        return digest(arguments_of(row["run_id"], row["kind"], row["arguments"], row["objective"]))
    except AgentSysError:  # its files may have gone, or have changed
        return None


def arguments_of(run_id: UUID, kind: str, arguments: Any, objective: str) -> Any:
    """What a step does its work with: a tool's arguments, or what a delegate step gives to its child."""
    arguments = arguments or {}
    if kind == "tool":
        return rendered(run_id, arguments)
    goal, given = rendered(run_id, [objective or arguments.get("goal") or "", arguments.get("input")])
    return {"goal": goal, "input": given, "plan": arguments.get("plan"), "agent": arguments.get("agent")}


def digest(value: Any) -> str:
    """SHA-256 of rendered arguments."""
    text = json.dumps(clean(value), sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def marked(run_id: UUID, tools: Mapping[str, ToolSpec]) -> dict[str, ToolSpec]:
    """``tools`` for a plan made anew: those with which the original has had an effect only replay it."""
    used = {row["tool"] for row in db.rows(SQL["recorded_tools"], run_id=run_id)}
    return {
        name: replace(spec, effect=cast(Any, RECORDED)) if name in used and spec.effect != "pure" else spec
        for name, spec in tools.items()
    }
