"""Tools whose only memory is the witness file, so that they remember what another process did."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from agentsys.tools import ToolContext, ToolFailed, ToolUnavailable, tool
from tests.support.tools import witness

LOADED = True
#: What happens while a call is under way.
meanwhile: list[Callable[[], None]] = []


def lines() -> list[str]:
    """What the file says."""
    return Path(os.environ["WITNESS"]).read_text().splitlines()


def witnessed(line: str) -> int:
    """How often the file has this line."""
    return lines().count(line)


def called(run_id: UUID) -> bool:
    """Whether a call of this run's has begun."""
    return any(f" {run_id}:" in line for line in lines())


def _happens(what: str, ctx: ToolContext) -> None:
    witness(f"{what} {ctx.idempotency_key}")
    for happening in meanwhile:
        happening()


@tool(effect="unsafe", lane="compute", name="witnessed.charge", timeout_s=5)
def charge(ctx: ToolContext) -> str:
    """Do what must not be done twice."""
    _happens("charge", ctx)
    return "charged"


@tool(effect="unsafe", lane="compute", name="witnessed.wire", timeout_s=5, approval=True)
def wire(ctx: ToolContext, to: str) -> str:
    """Do what must not be done twice, nor unasked."""
    _happens("wire", ctx)
    return to


@tool(effect="verifiable", lane="compute", name="witnessed.transfer", timeout_s=5, verify="witnessed.transferred")
def transfer(ctx: ToolContext) -> str:
    """Do what may be asked for afterwards."""
    _happens("transfer", ctx)
    return "transferred"


@tool(effect="pure", lane="compute", name="witnessed.transferred", timeout_s=5)
def transferred(ctx: ToolContext) -> Any:
    """Tell whether the transfer has happened."""
    if witnessed(f"transfer {ctx.idempotency_key}"):
        return {"outcome": "done", "result": "transferred"}
    return {"outcome": "not_done"}


@tool(effect="idempotent", lane="compute", name="witnessed.second", timeout_s=5)
def second(ctx: ToolContext, how: str = "unavailable", of: str = "") -> str:
    """Fail the first time that it is called (for ``of``, or with this key)."""
    line = f"second {of or ctx.idempotency_key}"
    witness(line)
    if witnessed(line) == 1:
        raise ToolFailed("no") if how == "failed" else ToolUnavailable("not yet")
    return "second"
