"""A program of ours (``tools/programs``) in a process of its own: what crashes, hangs or swells is one call."""

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentsys.core.errors import StepCancelled, ToolFailed, ToolOutputTooLarge
from agentsys.tools.sandbox import seccomp
from agentsys.tools.sandbox.sheets import Sheets

_FOLDER = Path(__file__).resolve().parent.parent / "programs"
TICK_S = 0.05
#: How long a program that has answered may take to end.
END_S = 1.0
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Bounds:
    """``memory_bytes`` of address space; the time on the wall, and of a CPU, in seconds."""

    wall_s: float
    memory_bytes: int
    answer_bytes: int


def run(
    name: str,
    job: dict[str, Any],
    contents: Sequence[bytes],
    *,
    put: Callable[[dict[str, Any], list[int]], None],
    bounds: Bounds,
    should_stop: Callable[[], bool],
) -> Any:
    """What the program answers.

    Args:
        contents: what it is to read; ``put`` writes their descriptors into the job.

    Raises:
        ToolFailed: it refused the job (its message says why), took too long, or did not survive it.
        ToolOutputTooLarge: its answer is.
        StepCancelled: ``should_stop`` said so.
    """
    with Sheets() as sheets:
        put(job, [sheets.put(content) for content in contents])
        own: dict[str, Any] = {
            "parent": os.getpid(),
            "memory_bytes": bounds.memory_bytes,
            "cpu_s": int(bounds.wall_s) + 1,
        }
        own["filter"] = base64.b64encode(seccomp.program(sockets=()) or b"").decode()
        stdin = sheets.put(json.dumps(job | own).encode("utf-8", "replace"))
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-E", "-s", str(_FOLDER / f"{name}.py")], stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0, pass_fds=sheets.descriptors, env={}, cwd="/", start_new_session=True,
        )  # fmt: skip
    with process:
        try:
            said = _listen(process, bounds, should_stop)
        finally:
            process.kill()
    return _value(said, process)


def _listen(process: "subprocess.Popen[bytes]", bounds: Bounds, should_stop: Callable[[], bool]) -> bytes:
    assert process.stdout is not None
    deadline, said = time.monotonic() + bounds.wall_s, bytearray()
    while True:
        if should_stop():
            raise StepCancelled()
        if time.monotonic() > deadline:
            raise ToolFailed(f"It did not end within {bounds.wall_s:g} s.", limit="time")
        if not select.select([process.stdout], [], [], TICK_S)[0]:
            continue
        chunk = os.read(process.stdout.fileno(), CHUNK_BYTES)
        if not chunk:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            return bytes(said)
        said += chunk
        if len(said) > bounds.answer_bytes:
            raise ToolOutputTooLarge("The answer is too large; ask for less.")


def _value(said: bytes, process: "subprocess.Popen[bytes]") -> Any:
    try:
        answer = json.loads(said)
    except ValueError:
        how = f"exit code {process.returncode}" if process.returncode >= 0 else f"signal {-process.returncode}"
        raise ToolFailed(
            f"It did not survive this ({how}): too much memory or time, or a fault in a library."
        ) from None
    if "refused" in answer:
        raise ToolFailed(str(answer["refused"]))
    return answer["value"]
