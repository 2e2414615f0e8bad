"""Python that anybody may have written, in a process without files, network or our memory.

It is ``pure`` with its writing of the run's files as well: nothing outside of the run changes, and done again it sees
the files as they were before its step (``runs.files``), so that it may be repeated freely, in a fork of the run, too.
"""

import atexit
import math
import os
import threading
import time
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_monty import (
    Monty,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySession,
    MontySyntaxError,
    ResourceLimits,
)
from typing_extensions import TypedDict

from agentsys.core.errors import StepTimeout, ToolFailed, ToolUnavailable
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool
from agentsys.tools.sandbox.code_files import CodeFiles

MAX_STDOUT_CHARS = 100_000
MAX_RECURSION = 500
#: How long a call waits for one of the pool's processes, in seconds.
CHECKOUT_TIMEOUT_S = 20.0
CHECKOUTS_PER_PROCESS = 200

_lock = threading.Lock()
#: At most one, by the id of the process it belongs to.
_pools: dict[int, Monty] = {}


class Ran(TypedDict):
    value: Any
    stdout: str


@tool(
    name="python.run",
    effect="pure",
    lane="compute",
    timeout_s=30.0,
    result_path="value",
    examples=(
        "run the Python code 'sum(range(10))'",
        "execute the Python 'print(1)'",
        "run Python: sorted([3, 1, 2])",
        "evaluate the Python expression 'len(\"abc\")'",
    ),
)
def run(
    code: Annotated[str, Field(min_length=1, max_length=50_000, description="Python source.")],
    ctx: ToolContext,
    inputs: Annotated[
        dict[str, Any] | None,
        Field(max_length=100, description="Values that the code sees as variables of these names."),
    ] = None,
    max_seconds: Annotated[float, Field(gt=0, le=20, description="Time limit of the code, in seconds.")] = 5,
    max_memory_mb: Annotated[int, Field(ge=1, le=256, description="Memory limit of the code, in MB.")] = 64,
) -> Ran:
    """Run Python code in a sandbox without network or installed packages.

    The result's `value` is that of the code's last expression, or else of its variable `result`;
    `stdout` is what it printed.  The values in `inputs` are variables of the code.  Functions, classes
    and part of the standard library are there: math, re, json, datetime, collections, itertools…
    The run's files: `read_file(name)` gives text (bytes with `binary=True`), `write_file(name, content)` takes either,
    `list_files()` gives their names and sizes.  What was written is kept when the code has ended well.
    """
    for name in inputs or {}:
        if not name.isidentifier():
            raise ToolFailed(f"inputs: {name[:50]!r} cannot be the name of a variable.")
    output, files = _Output(), CodeFiles(ctx.files)
    limits = _limits(min(max_seconds, _time_left_s(ctx)), max_memory_mb)
    try:
        with _pool().checkout(limits=limits, script_name="code.py") as session:
            value = session.feed_run(
                code, inputs=inputs or {}, external_lookup=files.functions(), print_callback=output
            )
            value = _variable_result(session) if value is None else value
    except TimeoutError as error:
        raise StepTimeout("No sandbox became free in time.") from error
    except MontyError as error:
        raise files.fault or _failure(error, output) from error
    if files.fault:
        raise files.fault
    files.keep()
    return Ran(value=value, stdout=output.text())


def _variable_result(session: MontySession) -> Any:
    try:
        return session.feed_run("result")
    except MontyRuntimeError:  # there is no such variable
        return None


def _time_left_s(ctx: ToolContext) -> float:
    left_s = ctx.deadline_at - time.monotonic()
    if left_s <= 0:
        raise StepTimeout()
    return math.inf if math.isinf(left_s) else left_s


def _limits(seconds: float, memory_mb: int) -> ResourceLimits:
    return ResourceLimits(
        max_feed_duration_secs=seconds,
        max_total_sleep_secs=seconds,
        max_memory=memory_mb * 1_000_000,
        max_recursion_depth=MAX_RECURSION,
    )


class _Output:
    """What the code prints, up to a bound; the rest is let go, so that a chatty loop fails nothing."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = MAX_STDOUT_CHARS

    def __call__(self, stream: Literal["stdout", "stderr"], text: str) -> None:  # noqa: ARG002
        if self._left > 0:
            self._parts.append(text[: self._left])
        self._left -= len(text)

    def text(self) -> str:
        return "".join(self._parts) + ("\n… (cut off)" if self._left < 0 else "")


def _failure(error: MontyError, output: _Output) -> ToolFailed:
    if isinstance(error, MontyCrashedError):
        return ToolFailed("The code brought its sandbox down: too much memory or too deep a recursion.")
    if isinstance(error, MontyRuntimeError | MontySyntaxError):
        trace = error.display("traceback")[-2_000:]
        return ToolFailed(f"The code failed: {error}"[:500], traceback=trace, stdout=output.text()[-2_000:])
    return ToolFailed(f"The code cannot be run: {error}"[:500])


def _pool() -> Monty:
    """This process's pool of sandbox processes, started at its first use and kept warm.

    Raises:
        ToolUnavailable: this process was forked from one that has a pool.  The library keeps threads
            which the child lacks: a call would hang, and break the parent's pool as well.
    """
    with _lock:
        if _pools and os.getpid() not in _pools:
            raise ToolUnavailable("The sandbox cannot be used in a process forked from one that used it.")
        if not _pools:
            pool = Monty(checkout_timeout=CHECKOUT_TIMEOUT_S, max_checkouts_per_worker=CHECKOUTS_PER_PROCESS)
            _pools[os.getpid()] = pool.__enter__()
            atexit.register(_close)
        return _pools[os.getpid()]


def _close() -> None:
    if pool := _pools.pop(os.getpid(), None):
        pool.__exit__(None, None, None)


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)
