"""Orphans come to us: a dead child's children can then be reaped, and ended, by whom they belong to.

Without this they would go to process 1, which in a container often reaps nobody.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil

from agentsys.infrastructure.embedded_base import on_gone

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Family:
    """All processes below this one, but for those that were there before."""

    def __init__(self) -> None:
        self._earlier = {child.pid for child in psutil.Process().children(recursive=True)}
        self._parent, self._parent_caught = 0, False

    def adopt_orphans(self) -> None:
        _ask_kernel(PR_SET_CHILD_SUBREAPER, 1)

    def end_with_parent(self) -> None:
        """Have the kernel ask this process to stop when the one that started it ends."""
        _ask_kernel(PR_SET_PDEATHSIG, signal.SIGTERM)
        self._parent, self._parent_caught = os.getppid(), _catches_interrupt(os.getppid())

    def parent_interrupted(self) -> bool:
        """Whether make was asked to stop by a SIGINT to it alone.

        It then drops its handler and waits for its children without telling them: a Ctrl-C reaches
        all by itself, a ``kill -INT`` of make does not.  Other parents are never taken for interrupted.
        """
        return self._parent_caught and os.getppid() == self._parent and not _catches_interrupt(self._parent)

    def reap(self, own: set[int]) -> None:
        """Bury orphans that have ended; ``own`` children are left to those who wait for them."""
        while (pid := _ended_child()) and pid not in own | self._earlier:
            os.waitpid(pid, 0)

    def end(self) -> None:
        """Kill whatever is still below us.  Only for the end of a stop, when nothing should be."""
        left = [it for it in psutil.Process().children(recursive=True) if it.pid not in self._earlier]
        for process in left:
            on_gone(process.kill)
        psutil.wait_procs(left, timeout=5)
        self.reap(own=set())


def _ended_child() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def _ask_kernel(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, int(value), 0, 0, 0)


def _catches_interrupt(pid: int) -> bool:
    """Whether the process is a make that has a handler for SIGINT; False where that cannot be told."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return "make" in status["Name"] and bool(int(status["SigCgt"], 16) >> (signal.SIGINT - 1) & 1)
    except (OSError, KeyError, ValueError):
        return False
