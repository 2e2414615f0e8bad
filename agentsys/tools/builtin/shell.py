"""Shell commands that anybody may have written, in a box without network on a copy of the run's files.

The one effect of a command is on the run's files, which are written after its end.  Done again, it sees them as they
were before its step (``runs.files``): whatever it adds to them it adds once.  So it is ``pure``, to be repeated freely:
after a crash, and in a fork of the run, where what follows from other input is computed anew and not replayed.
"""

import json
import math
import shlex
import time
from typing import Annotated, Any

from django.conf import settings
from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import StepCancelled, StepTimeout, ToolFailed
from agentsys.tools.builtin.types import FileName
from agentsys.tools.context import FileInfo, ToolContext
from agentsys.tools.registry import tool
from agentsys.tools.sandbox.limits import MB, Limits
from agentsys.tools.sandbox.run import Ran
from agentsys.tools.sandbox.run import run as run_in_box

MAX_PRINTED_BYTES = 100_000
MAX_FILES_BYTES = 50 * MB
#: What Linux allows.
MAX_NAME_BYTES = 255
#: Left of the step's time for reading and writing files.
SPARE_S = 0.5
_WHY = {
    "time": "It did not end within {max_seconds:g} s.",
    "cpu": "It used more than {max_seconds:g} s of CPU time.",
    "memory": "It used more than {max_memory_mb} MB of memory.",
    "processes": "It started too many processes.",
    "files": "It made too many files.",
    "output": "It printed more than 50 MB.",
}


class Done(TypedDict):
    """``files`` are those it has made or changed; ``skipped`` is why other entries of its folder are none."""

    exit_code: int
    stdout: str
    stderr: str
    files: list[FileInfo]
    skipped: dict[str, str]


@tool(
    name="shell.run",
    effect="pure",
    lane="compute",
    timeout_s=120.0,
    result_path="stdout",
)
def run(
    command: Annotated[
        str, Field(min_length=1, max_length=50_000, pattern=r"^[^\x00]*$", description="A command or script for bash.")
    ],
    ctx: ToolContext,
    files: Annotated[
        list[FileName] | None,
        Field(max_length=1_000, description="The run's files that it needs; all of them unless given."),
    ] = None,
    inputs: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], Any] | None,
        Field(max_length=100, description="Variables of the shell; what is no text becomes JSON."),
    ] = None,
    max_seconds: Annotated[float, Field(gt=0, le=100, description="Time limit, and limit of CPU time.")] = 30,
    max_memory_mb: Annotated[int, Field(ge=16, le=1_024, description="Memory limit, in MB.")] = 256,
    allow_errors: Annotated[
        bool, Field(description="Return an exit code other than 0 as a result; otherwise the step fails.")
    ] = False,
) -> Done:
    """Run a shell command in a sandbox without network, on a copy of this run's files.

    The files are in its working folder; those that it makes or changes there, not in folders below, become
    files of the run.  Files that it removes stay.  Programs of this machine's system are there (such as sed, awk,
    sort, grep), nothing else of it is.  Pass values as `inputs` and use them as "$name"; written into the command
    they would be read as part of it.  An exit code other than 0 fails the step, and changes no file, unless
    `allow_errors` is true.
    """
    given = _given(ctx, files)
    limits = _limits(ctx, max_seconds, max_memory_mb)
    script = _script(command, inputs or {})
    ran = run_in_box(script, files=given, limits=limits, should_stop=lambda: ctx.cancelled)
    _refuse(ran, limits, allow_errors=allow_errors, max_seconds=max_seconds, max_memory_mb=max_memory_mb)
    for name, content in ran.left.changed.items():
        ctx.files.write(name, content)
    return Done(
        exit_code=ran.exit_code,
        stdout=ran.stdout.text(),
        stderr=ran.stderr.text(),
        files=[FileInfo(name=name, size=len(content)) for name, content in ran.left.changed.items()],
        skipped=ran.left.skipped,
    )


def _script(command: str, inputs: dict[str, Any]) -> str:
    """The command after its variables, which no program sees that runs before it."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in inputs.items()}
    return "".join(f"export {name}={shlex.quote(text)}\n" for name, text in texts.items()) + command


def _given(ctx: ToolContext, names: list[str] | None) -> dict[str, bytes]:
    """The content of the files that the command is to see."""
    known = {file["name"]: file["size"] for file in ctx.files.list()}
    wanted = list(dict.fromkeys(known if names is None else names))
    if sum(known.get(name, 0) for name in wanted) > MAX_FILES_BYTES:
        raise ToolFailed("The files have more than 50 MB; name those that the command needs in `files`.")
    for name in wanted:
        if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
            raise ToolFailed(f"{name[:50]}… is too long a name for a folder; name other files in `files`.", file=name)
    return {name: ctx.files.read(name) for name in wanted}


def _limits(ctx: ToolContext, max_seconds: float, max_memory_mb: int) -> Limits:
    left_s = ctx.deadline_at - SPARE_S - time.monotonic()
    if left_s <= 0:
        raise StepTimeout()
    return Limits(
        wall_s=min(max_seconds, left_s),
        cpu_s=max_seconds,
        memory_bytes=max_memory_mb * MB,
        kept_bytes=min(MAX_PRINTED_BYTES, settings.MAX_OUTPUT_BYTES // 8),
    )


def _refuse(ran: Ran, limits: Limits, *, allow_errors: bool, max_seconds: float, **told: Any) -> None:
    """Raise for a command that did not come to a good end."""
    if ran.end == "stopped":
        raise StepCancelled()
    if ran.end == "time" and not math.isclose(limits.wall_s, max_seconds):
        raise StepTimeout()
    printed = {"stdout": ran.stdout.text()[-2_000:], "stderr": ran.stderr.text()[-2_000:]}
    if ran.end != "exit":
        why = _WHY[ran.end].format(max_seconds=max_seconds, **told)
        raise ToolFailed(f"The command was ended.  {why}", limit=ran.end, **printed)
    if ran.exit_code and not allow_errors:
        last = ran.stderr.text().strip().rpartition("\n")[2][:300]
        raise ToolFailed(
            f"The command ended with exit code {ran.exit_code}: {last}", exit_code=ran.exit_code, **printed
        )
