"""Tools whose every call leaves a line in a file that nobody else writes: the witness, outside of the database.

A line is ``seconds pid tool key``, appended by one write, so that lines of many processes never mix.
"""

import asyncio
import ctypes
import os
import time
from typing import Any

from agentsys.tools import ToolContext, tool

#: How long a call of the quick ones takes, so that a kill finds some under way.
PACE_S = 0.1


def seen(name: str, ctx: ToolContext) -> None:
    line = f"{time.time():.6f} {os.getpid()} {name} {ctx.idempotency_key}\n"
    file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@tool(effect="pure", lane="compute", name="chaos.near", timeout_s=30)
def near(ctx: ToolContext, value: Any = None, seconds: float = PACE_S) -> Any:
    """Give the value back."""
    seen("near", ctx)
    time.sleep(seconds)
    return value


@tool(effect="idempotent", lane="network", name="chaos.far", timeout_s=90)
def far(ctx: ToolContext, value: Any = None, seconds: float = PACE_S) -> Any:
    """Give the value back, from a thread."""
    seen("far", ctx)
    time.sleep(seconds)
    return value


@tool(effect="idempotent", lane="network", name="chaos.away", timeout_s=90)
async def away(ctx: ToolContext, value: Any = None, seconds: float = PACE_S) -> Any:
    """Give the value back, from the event loop."""
    seen("away", ctx)
    await asyncio.sleep(seconds)
    return value


@tool(effect="unsafe", lane="compute", name="chaos.charge", timeout_s=30)
def charge(ctx: ToolContext, after: Any = None, seconds: float = PACE_S) -> str:
    """Do in a process what must not be done twice."""
    seen("charge", ctx)
    time.sleep(seconds)
    return "done"


@tool(effect="unsafe", lane="network", name="chaos.order", timeout_s=90)
def order(ctx: ToolContext, after: Any = None, seconds: float = PACE_S) -> str:
    """Do in a thread what must not be done twice."""
    seen("order", ctx)
    time.sleep(seconds)
    return "done"


@tool(effect="pure", lane="compute", name="chaos.crash", timeout_s=30)
def crash(ctx: ToolContext) -> None:
    """End the process as a fault in C code does."""
    seen("crash", ctx)
    ctypes.string_at(0)


@tool(effect="pure", lane="compute", name="chaos.eat", timeout_s=60)
def eat(ctx: ToolContext, most_mb: int = 512) -> None:
    """Eat memory until the kernel's killer comes; here that is a signal to ourselves."""
    seen("eat", ctx)
    eaten = [bytearray(2**20) for _ in range(most_mb)]
    os.kill(os.getpid(), 9 if eaten else 0)


@tool(effect="pure", lane="compute", name="chaos.spin", timeout_s=1)
def spin(ctx: ToolContext, seconds: float = 60.0) -> None:
    """Use a whole processor for longer than allowed."""
    seen("spin", ctx)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
