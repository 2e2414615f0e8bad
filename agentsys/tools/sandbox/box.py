"""A box that runs: watched, and ended as a whole.

All of its processes are one pid namespace.  Its first process is killed by us at a limit, a time-out or a cancel, and
by the kernel when the thread that made the box ends, so with its worker; the kernel then kills the rest, whatever
they do.
"""

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentsys.core.errors import SandboxUnavailable
from agentsys.tools.sandbox.limits import Limits, Meter, kill

#: How long the kernel may take to end a box.
END_S = 5.0
TICK_S = 0.05
CHUNK_BYTES = 65_536


@dataclass(slots=True)
class Stream:
    """What a box prints: its beginning, and how much there was."""

    most_bytes: int
    data: bytearray = field(default_factory=bytearray)
    size: int = 0

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.data += chunk[: self.most_bytes - len(self.data)]

    def text(self) -> str:
        cut = "" if self.size <= len(self.data) else f"\n… (cut off: {self.size} bytes)"
        return self.data.decode("utf-8", "replace") + cut


@dataclass(slots=True)
class Box:
    """``room`` is a descriptor of its folder, ``first`` one of its first process."""

    process: "subprocess.Popen[bytes]"
    limits: Limits
    meter: Meter
    first: int
    room: int
    stdout: Stream
    stderr: Stream

    def wait(self, should_stop: Callable[[], bool]) -> str:
        """Watch it until none of its processes is left.

        Returns:
            "exit"; "stopped" or the limit that it broke: time, cpu, memory, processes, files, output.

        Raises:
            SandboxUnavailable: the kernel could not end it.
        """
        deadline = time.monotonic() + self.limits.wall_s
        with self._ears() as ears:
            end = self._listen(ears, lambda: self._why(deadline, should_stop))
            if end != "exit":
                kill(self.first)
                deadline = time.monotonic() + END_S
                if self._listen(ears, lambda: time.monotonic() > deadline and "hangs") != "exit":
                    raise SandboxUnavailable("A command could not be ended: it hangs in the kernel.")
        self.process.wait(END_S)
        return end

    def _why(self, deadline: float, should_stop: Callable[[], bool]) -> str:
        """Why it is to be ended now; "": it may go on."""
        if should_stop():
            return "stopped"
        if time.monotonic() > deadline:
            return "time"
        if self.stdout.size + self.stderr.size > self.limits.printed_bytes:
            return "output"
        return self.meter.breach()

    @contextmanager
    def _ears(self) -> Iterator[selectors.BaseSelector]:
        with selectors.DefaultSelector() as ears:
            for pipe, stream in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr)):
                assert pipe is not None
                ears.register(pipe, selectors.EVENT_READ, stream)
            ears.register(self.first, selectors.EVENT_READ)
            yield ears

    def _listen(self, ears: selectors.BaseSelector, until: Callable[[], str | bool]) -> str:
        """Take what is printed; "exit" once all is dead and read, or else what ``until`` says."""
        while ears.get_map():
            if end := until():
                return str(end)
            for key, _ in ears.select(TICK_S):
                chunk = os.read(key.fd, CHUNK_BYTES) if key.data else b""
                if chunk:
                    key.data.take(chunk)
                else:  # the end of a pipe, or of the first process
                    ears.unregister(key.fileobj)
        return "exit"
