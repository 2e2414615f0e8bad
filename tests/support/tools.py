"""Tools for tests.  ``calls`` keeps what was called in this process; a witness file sees other processes too."""

import asyncio
import base64
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

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


@tool(effect="unsafe", lane="compute", name="test.send", timeout_s=5)
def send(ctx: ToolContext, to: str, text: Any = None) -> str:
    """Send something where it cannot be taken back."""
    calls.append(("send", {"to": to, "text": text}))
    return f"sent to {to}"


@tool(effect="pure", lane="compute", name="test.page", timeout_s=5, source="web")
def page(text: str, *, fails: bool = False) -> dict[str, str]:
    """Give back what anybody may have written."""
    if fails:
        raise ToolFailed(text)
    return {"text": text}


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


def _tell(text: str, how: str) -> Any:
    """What a careless tool does with a secret."""
    if how == "raise":
        raise ToolFailed(f"refused {text}", token=text, deep=[{"as": quote(text)}])
    if how == "retry":
        raise ToolUnavailable(f"not now, {text}")
    if how == "bug":
        raise KeyError(f"no {text} here")
    if how == "log":
        logging.getLogger("careless").warning("using %s, %s", text, base64.b64encode(text.encode()).decode())
    return {"said": text, text: [f"Basic {base64.b64encode(f'me:{text}'.encode()).decode()}", json.dumps({"t": text})]}


@tool(effect="pure", lane="compute", name="test.leak", timeout_s=5)
def leak(token: Annotated[str, Field(max_length=30_000)], how: str = "", more: Any = None) -> Any:
    """Be careless with what it is given."""
    calls.append(("leak", token))
    calls.append(("more", more))
    return _tell(token, how)


@tool(effect="pure", lane="network", name="test.leak_slowly", timeout_s=0.3)
async def leak_slowly(token: str, how: str = "") -> Any:
    """Be careless on the event loop."""
    if how == "hang":
        await asyncio.sleep(60)
    return _tell(token, how)


@tool(effect="pure", lane="compute", name="test.leak_file", timeout_s=5)
def leak_file(ctx: ToolContext, token: str) -> None:
    """Write what it is given into files."""
    ctx.files.write("text.txt", f"token={token}")
    ctx.files.write("raw.bin", b"\xff\x00" + token.encode() + b"\xfe" + token.encode().hex().encode())


@tool(effect="pure", lane="compute", name="test.keyed", timeout_s=5, secrets=("github",))
def keyed(ctx: ToolContext, other: str = "github", text: str = "") -> Any:
    """Ask for a secret by itself."""
    calls.append(("keyed", (ctx.secret(other), text)))
    return _tell(ctx.secret(other), "")


@tool(effect="unsafe", lane="compute", name="test.ship", timeout_s=5, approval=True)
def ship(token: str, note: Any = None) -> str:
    """Need a word of somebody, and a secret."""
    calls.append(("ship", (token, note)))
    witness(f"ship {token}")
    return f"shipped with {token}"
