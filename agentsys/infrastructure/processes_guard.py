"""Ends what is left when the supervisor dies without a word (kill -9, out of memory).

The kernel's death signal reaches the supervisor's children; their children (a worker's pool, a web
worker) may not have asked for it.  So this small process holds the reading end of a pipe: lines
``+GROUP`` and ``-GROUP`` name the process groups that live, the end of the file says that the
supervisor is gone.  PostgreSQL is not in the list: it ends itself, well, by its own death signal.
Run by path with ``python -I -S``; imports only the standard library.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # what ends the supervisor must not end its guard first
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
