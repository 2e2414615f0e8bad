"""An answer as it is written: its text in pieces of a size and at a pace that people can follow."""

import time
from collections.abc import Callable

#: Pieces come no more often than this, in seconds …
PACE_S = 0.1
#: … and are no longer than this, in characters: written as JSON at most 3.6 KB (``hub.MAX_DELTA_CHARS``).
MAX_CHARS = 300


class Pieces:
    """Gathers text and hands it on to ``told`` in pieces."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._waiting = ""
        self._due_at = 0.0

    def add(self, text: str) -> None:
        self._waiting += text
        if time.monotonic() >= self._due_at:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits."""
        waiting, self._waiting = self._waiting, ""
        for start in range(0, len(waiting), MAX_CHARS):
            self._told(waiting[start : start + MAX_CHARS])
        self._due_at = time.monotonic() + PACE_S
