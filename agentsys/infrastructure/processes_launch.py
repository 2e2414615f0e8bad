"""Becomes the command it is given, as the user it is given, tied to the life of its parent.

Run by path with ``python -I -S`` (15 ms), so it imports nothing but the standard library:
``processes_launch.py PARENT_PID SIGNAL USER COMMAND…`` (USER is "-" for "stay who you are").

Why a program and not ``preexec_fn``: that runs Python between fork and exec, which may deadlock
in a parent that has threads.  The order matters: Linux forgets the death signal when the user
changes, so the user comes first.
"""

import ctypes
import os
import pwd
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
#: Files at a time, where the machine allows so many: a call that waits and a stream that is open have one each.
MAX_FILES = 20_000


def become(user: str) -> None:
    """Give up root for ``user``, for good: groups first, while we still may."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with_parent(parent_pid: int, signum: int) -> None:
    """Have the kernel send ``signum`` to this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent_pid:  # it ended before the kernel could be asked
        raise SystemExit(0)


def allow_many_files() -> None:
    """Raise our own limit, which is often 1,024, towards the one that is set for us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(parent_pid: str, signum: str, user: str, *command: str) -> None:
    if user != "-":
        become(user)
    die_with_parent(int(parent_pid), int(signum))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that outlives exec
    os.umask(0o077)
    allow_many_files()
    os.execv(command[0], command)  # noqa: S606 - that is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
