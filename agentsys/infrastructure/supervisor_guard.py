"""The supervisor's side of the guard (see processes_guard): tell it which groups live."""

import contextlib
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("processes_guard.py")


class Guard:
    """Keeps one guard process alive and told.  ``close`` lets it end without killing anybody."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    def watch(self, groups: set[int]) -> None:
        """Make ``groups`` the ones to end with us; starts the guard again if it was killed."""
        if self._popen is None or self._popen.poll() is not None:
            self._start()
        self._tell("+", groups - self._groups)
        self._tell("-", self._groups - groups)
        self._groups = set(groups)

    def _start(self) -> None:
        self.close()
        self._popen = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def _tell(self, sign: str, groups: set[int]) -> None:
        if not groups or self._popen is None or self._popen.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # killed just now: watch() starts another
            self._popen.stdin.write("".join(f"{sign}{group}\n" for group in sorted(groups)).encode())
            self._popen.stdin.flush()

    def close(self) -> None:
        """End the guard; whatever it still watches must have been told off before."""
        if self._popen is None:
            return
        self._tell("-", self._groups)
        self._groups = set()
        with contextlib.suppress(BrokenPipeError):
            self._popen.communicate()
        self._popen = None
