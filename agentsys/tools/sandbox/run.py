"""Run one command in a box: the door to this package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentsys.core.errors import SandboxUnavailable
from agentsys.tools.context import is_file_name
from agentsys.tools.sandbox import room
from agentsys.tools.sandbox.box import Stream
from agentsys.tools.sandbox.building import open_box
from agentsys.tools.sandbox.limits import Limits
from agentsys.tools.sandbox.room import Left


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: ``end`` as in ``Box.wait``, ``exit_code`` 128 and the signal where one ended it."""

    end: str
    exit_code: int
    stdout: Stream
    stderr: Stream
    left: Left


def run(command: str, *, files: Mapping[str, bytes], limits: Limits, should_stop: Callable[[], bool]) -> Ran:
    """Run a shell command on a copy of some files, and wait until nothing of it is left.

    Costs some 20 ms, and in memory what the files and its limits are.

    Raises:
        SandboxUnavailable: this machine does not let us; see open_box.
        ToolOutputTooLarge: it has left more than is read back.
    """
    with open_box(command, files, limits) as box:
        end = box.wait(should_stop)
        left = Left()
        if end == "exit":
            left = room.read(box.room, files, is_name=is_file_name, file_bytes=limits.file_bytes)
        return Ran(end, box.process.returncode, box.stdout, box.stderr, left)


def why_not() -> str:
    """Why no command can be run on this machine; "" if one can.  Runs one, some 40 ms."""
    try:
        ran = run("true", files={}, limits=Limits(wall_s=5.0, cpu_s=5.0), should_stop=lambda: False)
    except SandboxUnavailable as error:
        return error.message
    return (
        "" if ran.end == "exit" and not ran.exit_code else f"A box was made, and its command did not run ({ran.end})."
    )
