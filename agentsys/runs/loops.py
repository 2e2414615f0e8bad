"""Loops: a run that makes the same call again and again, and learns nothing by it.

Whatever adds calls to a run after its first plan asks :func:`check` before, and so does the call itself where its
arguments could not be known earlier.  Two calls are the same when tool and rendered arguments are; they taught nothing
new when they ended alike: with the same output, or the same error.  What a person says is news: only calls since the
last message that asked for another plan count.  Repetitions within a run's first plan are meant, and never asked about.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.agents import references
from agentsys.agents.plan_types import PlanStep
from agentsys.core import db
from agentsys.core.errors import AgentSysError, LoopDetected

from .recorded import digest
from .rendering import outputs_of, rendered
from .store.claims import Claim
from .store.sql import SQL


def check(run_id: UUID, tool: str, arguments: Any) -> None:
    """Ask whether a call may be made once more.

    Costs one query, and one more where earlier calls of the tool refer to outputs.

    Raises:
        LoopDetected: it has been made as often as it may, each time with the same end; ``tool``, ``digest``,
            ``times``, ``steps`` (their keys, the last first) and ``outcome`` are the evidence.
    """
    ended = db.rows(SQL["calls_of_tool"], run_id=run_id, tool=tool)
    if not ended:
        return
    most = int(ended[0]["max_repeats"] or settings.RUN_MAX_REPEATS)
    if len(ended) < most:
        return
    wanted = digest(arguments)
    same = _same(run_id, ended, wanted)
    alike = list(takewhile(lambda row: row["ending"] == same[0]["ending"], same))
    if len(alike) >= most:
        raise LoopDetected(
            f"{tool} has been called {len(alike)} times with the same arguments and ended the same each time.",
            tool=tool,
            digest=wanted,
            times=len(alike),
            steps=[row["key"] for row in alike],
            outcome=alike[0]["outcome"],
        )


def _same(run_id: UUID, ended: Sequence[db.Row], wanted: str) -> list[db.Row]:
    """Those of these calls that had the wanted arguments: the outputs that these were made of never change."""
    named = set().union(*(references.names(row["arguments"]) for row in ended))
    if "files" in named:  # what they held then is not known
        ended = [row for row in ended if "files" not in references.names(row["arguments"])]
    values: dict[str, Any] = outputs_of(run_id, sorted(named - {"input", "goal", "files"}))
    if ended:
        values |= {"input": ended[0]["input"], "goal": ended[0]["goal"]}
    return [row for row in ended if _digest_of(row["arguments"], values) == wanted]


def _digest_of(template: Any, values: Mapping[str, Any]) -> str | None:
    try:
        return digest(references.render(template or {}, values))
    except AgentSysError:
        return None


def check_call(claim: Claim, arguments: Any) -> None:
    """:func:`check` for a call that is about to be made, in a run that has planned anew; else it costs nothing."""
    if claim.run_plan_version > 1:
        check(claim.run_id, claim.tool, arguments)


def check_plan(run_id: UUID, steps: Iterable[PlanStep], done: frozenset[str]) -> None:
    """:func:`check` for the calls of a new plan whose arguments are known already.

    Args:
        done: Keys of steps that have succeeded.
    """
    known = done | {"input", "goal"}
    asked: set[tuple[str, str]] = set()
    for step in steps:
        if step.kind != "tool" or references.names(step.arguments) - known:
            continue
        arguments = rendered(run_id, step.arguments)
        call = step.tool, digest(arguments)
        if call not in asked:
            asked.add(call)
            check(run_id, step.tool, arguments)
