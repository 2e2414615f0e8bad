"""Which process of this host does a job of which one is enough.  The kernel ends a dead one's term."""

import fcntl
import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)
SILENT_AFTER_S = 5.0
MAX_DEPUTIES = 8


class Election:
    """A lock on a file; whoever holds it is elected until it ends or resigns.

    A process that is frozen keeps its lock.  So the elected one touches its file each time it asks, and when it
    has not asked for ``silent_after_s`` seconds the others elect a deputy, by a file of its own and under the
    same rule, until it asks again.  Where the folder cannot be written everybody is elected.  So now and then
    there are two: the jobs must be safe to do twice.
    """

    def __init__(self, path: Path, *, silent_after_s: float = SILENT_AFTER_S, rank: int = 0) -> None:
        self._path, self._silent_after_s, self._rank = path, silent_after_s, rank
        self._lock: int | None = None
        self._deputy: Election | None = None

    def won(self) -> bool:
        """Whether this process is elected; stands for election if nobody is.  To be asked each second; ~10 µs."""
        if self._lock is None and not self._stand():
            return self._stands_in()
        self._drop_deputy()
        if self._lock is not None:
            os.utime(self._lock)
        return True

    def resign(self) -> None:
        """Let somebody else be elected."""
        self._drop_deputy()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _stand(self) -> bool:
        """Try to get the lock; True, too, where there can be none."""
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

    def _stands_in(self) -> bool:
        if not self._is_silent() or self._rank >= MAX_DEPUTIES:
            self._drop_deputy()
            return False
        if self._deputy is None:
            path = self._path.with_name(f"{self._path.name}+")
            self._deputy = Election(path, silent_after_s=self._silent_after_s, rank=self._rank + 1)
        return self._deputy.won()

    def _is_silent(self) -> bool:
        try:
            asked_at = self._path.stat().st_mtime
        except OSError:
            return False
        return abs(time.time() - asked_at) > self._silent_after_s  # a clock that was set back, too

    def _drop_deputy(self) -> None:
        if self._deputy is not None:
            self._deputy.resign()
            self._deputy = None
