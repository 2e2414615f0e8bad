"""What a box has left in its folder, read when all of its processes are dead.

Nothing in there is trusted: links are not followed, what is no regular file is not opened, and names are as the box
has made them.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentsys.core.errors import ToolOutputTooLarge

MAX_CHANGED, MAX_CHANGED_BYTES = 200, 50_000_000
MAX_TOLD = 50
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO)


@dataclass(slots=True)
class Left:
    """``changed`` are files by name that are new or others than before, ``skipped`` why another entry was left."""

    changed: dict[str, bytes] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    def skip(self, name: str, why: str) -> None:
        if len(self.skipped) < MAX_TOLD:
            self.skipped[name[:255]] = why
        else:
            self.left_out += 1


def read(room: int, before: Mapping[str, bytes], *, is_name: Callable[[str], bool], file_bytes: int) -> Left:
    """What is new in the folder that ``room`` is a descriptor of, which is closed to nobody from now on.

    Raises:
        ToolOutputTooLarge: more than 200 files, or 50 MB, are.
    """
    left = Left()
    os.fchmod(room, 0o700)
    for name in sorted(os.listdir(room)):
        if is_name(name):
            _take(left, room, name, before.get(name), file_bytes)
        else:
            left.skip(name, "not a name that a run's file may have")
    return left


def _take(left: Left, folder: int, name: str, before: bytes | None, file_bytes: int) -> None:
    found = os.lstat(name, dir_fd=folder)
    if not stat.S_ISREG(found.st_mode):
        left.skip(name, _KINDS.get(stat.S_IFMT(found.st_mode), "not a file"))
    elif found.st_size > file_bytes:
        raise ToolOutputTooLarge(f"{name} has {found.st_size} bytes; a run's file may have {file_bytes}.", file=name)
    elif (content := _content(folder, name, file_bytes)) is None:
        left.skip(name, "it may not be read")
    elif content != before:
        left.changed[name] = content
        if len(left.changed) > MAX_CHANGED or sum(map(len, left.changed.values())) > MAX_CHANGED_BYTES:
            raise ToolOutputTooLarge(f"The command changed more than {MAX_CHANGED} files or {MAX_CHANGED_BYTES} bytes.")


def _content(folder: int, name: str, file_bytes: int) -> bytes | None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return None
    with open(file, "rb") as reader:
        return reader.read(file_bytes)
