"""How processes of this host have ended: noted by whoever waited for them, read by whoever takes over their work.

A few bytes a process in the data folder, where all processes of a node look.  It is evidence for people, and nothing
is decided by it: a note that is lost costs a word.
"""

import logging
import os
import signal
import time
from pathlib import Path

from django.conf import settings

from agentsys.core import procs

logger = logging.getLogger(__name__)
#: A pid may be used again later.
FRESH_S = 300.0


def note(pid: int, exitcode: int) -> None:
    """Keep how a process has ended: its exit code, or minus the number of the signal.  Never raises."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not _is_fresh(old):
                old.unlink(missing_ok=True)
        (folder / str(pid)).write_text(str(exitcode))
    except OSError as error:
        logger.debug("the end of process %d could not be noted: %s", pid, error)


def how(name: str) -> str:
    """``exit code 1`` or ``signal 9 (SIGKILL)`` of a process (see ``procs``) that has just ended; "": nobody knows."""
    found = procs.parse(name)
    if found is None or not procs.is_dead_here(name):
        return ""
    exitcode = procs.zombie_exitcode(found.pid)
    if exitcode is None:
        exitcode = _noted(found.pid)
    return "" if exitcode is None else _said(exitcode)


def _said(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"signal {-exitcode} ({signal.Signals(-exitcode).name})"
    except ValueError:
        return f"signal {-exitcode}"


def _noted(pid: int) -> int | None:
    path = _folder() / str(pid)
    try:
        return int(path.read_text()) if _is_fresh(path) else None
    except (OSError, ValueError):
        return None


def _is_fresh(path: Path) -> bool:
    return time.time() - os.stat(path).st_mtime < FRESH_S


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "exits"
