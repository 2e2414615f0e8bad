"""Tools for tests.  ``calls`` keeps what was called in this process; a witness file sees other processes too."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agentsys.core.errors import OutcomeUnknown
from agentsys.tools import ToolContext, ToolFailed, ToolUnavailable, tool

LOADED = True
calls: list[tuple[str, Any]] = []
landed: set[str] = set()
verdicts: list[Any] = []


def witness(line: str) -> None:
    """One line in the file that nobody but the tools writes to; a single write, so lines never mix."""
    if path := os.environ.get("WITNESS"):
        with Path(path).open("a") as file:
            file.write(line + "\n")


@tool(effect="pure", lane="compute", name="test.echo", timeout_s=5)
def echo(value: Any = None) -> Any:
    """Give the value back."""
    calls.append(("echo", value))
    return value


@tool(effect="pure", lane="compute", name="test.tick", timeout_s=5)
def tick() -> int:
    """Tell how often it has been asked."""
    calls.append(("tick", None))
    return calls.count(("tick", None))


@tool(effect="pure", lane="network", name="test.far", timeout_s=5)
def far(value: Any = None) -> Any:
    """Give the value back, from another lane."""
    return value


@tool(effect="pure", lane="compute", name="test.fail", timeout_s=5)
def fail(message: str = "no") -> None:
    """Fail for good."""
    raise ToolFailed(message)


@tool(effect="idempotent", lane="compute", name="test.flaky", timeout_s=5)
def flaky(ctx: ToolContext, failures: int = 1) -> int:
    """Be unavailable so many times."""
    calls.append(("flaky", ctx.idempotency_key))
    seen = calls.count(("flaky", ctx.idempotency_key))
    if seen <= failures:
        raise ToolUnavailable("not yet")
    return seen


@tool(effect="idempotent", lane="compute", name="test.append", timeout_s=5)
def append(ctx: ToolContext, name: str, failures: int = 0) -> int:
    """Add a + to a file, and only then be unavailable so many times."""
    ctx.files.write(name, ctx.files.read(name) + b"+")
    return flaky(ctx, failures)


@tool(effect="pure", lane="compute", name="test.bug", timeout_s=5)
def bug() -> None:
    """Raise something nobody expects."""
    raise KeyError("secret-in-a-traceback")


@tool(effect="unsafe", lane="compute", name="test.charge", timeout_s=5)
def charge(ctx: ToolContext, how: str = "ok") -> str:
    """Do what must not be done twice."""
    calls.append(("charge", ctx.idempotency_key))
    witness(f"charge {ctx.idempotency_key}")
    if how == "unavailable":
        raise ToolUnavailable("the answer was lost")
    if how == "not_sent":
        raise ToolUnavailable("never left", sent=False)
    if how == "unknown":
        raise OutcomeUnknown("nobody knows")
    return "charged"


@tool(effect="verifiable", lane="compute", name="test.transfer", timeout_s=5, verify="test.transferred")
def transfer(ctx: ToolContext, how: str = "ok") -> str:
    """Do what may be asked for afterwards."""
    calls.append(("charge", ctx.idempotency_key))
    if how != "lost":
        landed.add(ctx.idempotency_key)
    if how != "ok":
        raise ToolUnavailable("the answer was lost")
    return "transferred"


@tool(effect="pure", lane="compute", name="test.transferred", timeout_s=5)
def transferred(ctx: ToolContext, how: str = "ok") -> Any:
    """Tell whether a transfer has happened, or what ``verdicts`` says next."""
    calls.append(("check", (ctx.idempotency_key, how)))
    ctx.ensure_lease()
    if verdicts:
        verdict = verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict
    return {"outcome": "done", "result": "found"} if ctx.idempotency_key in landed else {"outcome": "not_done"}


@tool(effect="unsafe", lane="compute", name="test.wire", timeout_s=5, approval=True)
def wire(ctx: ToolContext, to: str, amount: Annotated[float, Field(ge=0)] = 1, note: Any = None) -> dict[str, Any]:
    """Do what must not be done twice, nor unasked."""
    calls.append(("wire", {"to": to, "amount": amount, "note": note}))
    witness(f"wire {ctx.idempotency_key}")
    return {"to": to, "amount": amount, "note": note}
