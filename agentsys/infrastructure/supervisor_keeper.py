"""Keeps one child running: at once after a first crash, more and more slowly if it crashes on."""

import time
from typing import Protocol

from agentsys.infrastructure.embedded_base import reason
from agentsys.infrastructure.processes import SetupFailed

#: Seconds to wait before the next start after so many crashes in a row; the last repeats.
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
#: A child that lived this long was started well (what cannot start ends while it imports or reads its settings);
#: its next crash counts as the first.
HEALTHY_S = 5.0


class Child(Protocol):
    """What the supervisor needs of a child: a server of ours or a process."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def exit_code(self) -> int | None: ...
    def start(self) -> object: ...
    def restart(self) -> object: ...
    def alive(self) -> bool: ...
    def ready(self) -> bool: ...
    def last_words(self) -> list[str]: ...


class Keeper:
    """One child and its history of crashes."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._crashes = 0
        self._started_at = time.monotonic()
        self._due_at: float | None = None

    def start(self) -> None:
        """The first start.  Raises SetupFailed."""
        self._started_at = time.monotonic()
        self.child.start()

    def look(self) -> str | None:
        """Restart the child if it has ended and its pause is over.  Returns what to tell, if anything."""
        if self.child.alive():
            return None
        if self._due_at is None:
            return self._ended()
        return self._restart() if time.monotonic() >= self._due_at else None

    def _ended(self) -> str | None:
        """Note the end.  The first crash is told with its restart, later ones with their pause."""
        lived_s = time.monotonic() - self._started_at
        self._crashes = 1 if lived_s > HEALTHY_S else self._crashes + 1
        pause_s = PAUSES_S[min(self._crashes, len(PAUSES_S)) - 1]
        self._due_at = time.monotonic() + pause_s
        if not pause_s:
            return self._restart()
        why = reason(self.child.last_words())
        return f"{self.child.name} keeps ending ({self._how()}): {why}; next start in {pause_s:g} s"

    def _how(self) -> str:
        code = self.child.exit_code or 0
        return f"signal {-code}" if code < 0 else f"exit {code}"

    def _restart(self) -> str:
        how = self._how()
        self._due_at, self._started_at = None, time.monotonic()
        try:
            self.child.restart()
        except SetupFailed as error:
            return f"{self.child.name} cannot be started again: {error}"
        return f"{self.child.name} ended ({how}) and was started again"
