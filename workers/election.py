"""Which process of this host does a job of which one is enough.  The kernel ends a dead one's term."""

import fcntl
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class Election:
    """A lock on a file; whoever holds it is elected until it ends or resigns.

    Where the folder cannot be written everybody is elected: the jobs are safe to do twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def won(self) -> bool:
        """Whether this process is elected; stands for election if nobody is.  ~5 µs."""
        if self._lock is not None:
            return True
        try:
            self._path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger.debug("%s cannot be locked: %s", self._path, error)
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def resign(self) -> None:
        """Let somebody else be elected."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
