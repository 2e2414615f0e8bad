"""Tools that worker processes run in these tests: they wait for the test, and leave a trace of each call."""

import asyncio
import ctypes
import os
import time
from pathlib import Path

from agentsys.core import http
from agentsys.tools import ToolContext, tool

PATIENCE_S = 60.0


def _hold(ctx: ToolContext, folder: str) -> str:
    """Leave a file named after this process, then wait until the test lets go (or takes the step away)."""
    place = Path(folder)
    (place / f"call-{ctx.step_key}-{os.getpid()}").touch()
    end = time.monotonic() + PATIENCE_S
    while not (place / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)
    return "held"


@tool(effect="pure", lane="compute", name="probe.hold", timeout_s=60)
def hold(ctx: ToolContext, folder: str) -> str:
    """Wait for the test in a process."""
    return _hold(ctx, folder)


@tool(effect="pure", lane="network", name="probe.hold_far", timeout_s=60)
def hold_far(ctx: ToolContext, folder: str) -> str:
    """Wait for the test in a thread."""
    return _hold(ctx, folder)


@tool(effect="pure", lane="network", name="probe.hold_away", timeout_s=60)
async def hold_away(ctx: ToolContext, folder: str) -> str:
    """Wait for the test on the event loop."""
    place = Path(folder)
    (place / f"call-{ctx.step_key}-{os.getpid()}").touch()
    end = time.monotonic() + PATIENCE_S
    while not (place / "go").exists() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return "held"


@tool(effect="pure", lane="network", name="probe.rest", timeout_s=60)
async def rest(seconds: float = 0.2) -> str:
    """Be slow on the event loop, as a server that takes its time."""
    await asyncio.sleep(seconds)
    return "rested"


@tool(effect="pure", lane="compute", name="probe.hang", timeout_s=1)
def hang(seconds: float = 60.0) -> str:
    """Sleep past every deadline."""
    time.sleep(seconds)
    return "woke up"


@tool(effect="pure", lane="network", name="probe.hang_far", timeout_s=1)
def hang_far(seconds: float = 60.0) -> str:
    """Sleep past every deadline in a thread."""
    time.sleep(seconds)
    return "woke up"


@tool(effect="pure", lane="compute", name="probe.patient", timeout_s=60)
def patient(ctx: ToolContext, folder: str) -> str:
    """Work until told to stop."""
    place = Path(folder)
    (place / f"call-{ctx.step_key}-{os.getpid()}").touch()
    end = time.monotonic() + PATIENCE_S
    while not ctx.cancelled and time.monotonic() < end:
        time.sleep(0.02)
    return "told" if ctx.cancelled else "never told"


@tool(effect="unsafe", lane="network", name="probe.order", timeout_s=60)
async def order(url: str) -> int:
    """Do what may not be done twice, at a server that takes its time."""
    return (await http.request("POST", url, content=b"{}")).status


@tool(effect="pure", lane="compute", name="probe.grab", timeout_s=60)
def grab(ctx: ToolContext, folder: str, seconds: int = 60) -> str:
    """The first call stays in C code that never lets go of the interpreter."""
    place = Path(folder)
    first = not list(place.glob("call-*"))
    (place / f"call-{ctx.step_key}-{os.getpid()}").touch()
    if first:
        ctypes.PyDLL(None).sleep(seconds)
    return "let go"
