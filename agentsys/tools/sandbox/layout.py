"""What a box looks like from inside, as arguments of bubblewrap.

A system to read (programs, libraries, shared data), a /proc of its own processes, five devices without power, and
one folder in memory to write to, which is gone with the box.  Nothing else of this machine: no home, no /etc, no
network but a loopback of its own, no environment.
"""

import os
from collections.abc import Iterator
from pathlib import Path

#: What may be written to: a tmpfs with the run's files and a folder for what is temporary.
ROOM, WORK = "/home", "/home/work"
USER = "65534"
_SYSTEM = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/share")
#: Links into /usr, or folders where the system is not merged.
_OLD = ("/bin", "/sbin", "/lib", "/lib64")
_ETC = ("/etc/alternatives", "/etc/ld.so.cache")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/home/tmp",
    "TMPDIR": "/home/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "USER": "sandbox",
}


def arguments(*, room_bytes: int) -> list[str]:
    """Everything but the run's files and what is to be run; they come after these."""
    return [*_walls(), *_system(), *_devices(), *_room(room_bytes)]


def closed() -> list[str]:
    """What comes after the files: from now on only the room can be written to."""
    return ["--remount-ro", "/", "--chdir", WORK]


def shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def _walls() -> Iterator[str]:
    yield from ("--unshare-all", "--die-with-parent", "--new-session", "--hostname", "sandbox")
    yield from ("--uid", USER, "--gid", USER, "--cap-drop", "ALL", "--clearenv")
    for name, value in _ENVIRONMENT.items():
        yield from ("--setenv", name, value)


def _system() -> Iterator[str]:
    for path in _SYSTEM:
        yield from ("--ro-bind-try", path, path)
    for path in _OLD:
        if Path(path).is_symlink():
            yield from ("--symlink", os.readlink(path), path)
        else:
            yield from ("--ro-bind-try", path, path)
    for path in _ETC:
        yield from ("--ro-bind-try", path, path)
    yield from ("--proc", "/proc")


def _devices() -> Iterator[str]:
    yield from ("--size", "65536", "--tmpfs", "/dev")
    for name in _DEVICES:
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    for name, target in _LINKS.items():
        yield from ("--symlink", target, f"/dev/{name}")
    yield from ("--remount-ro", "/dev")


def _room(room_bytes: int) -> Iterator[str]:
    yield from ("--size", str(room_bytes), "--tmpfs", ROOM)
    yield from ("--dir", WORK, "--dir", f"{ROOM}/tmp", "--symlink", "home/tmp", "/tmp")  # noqa: S108 - the box's own
