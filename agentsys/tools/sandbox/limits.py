"""What a box may use, and whether it has used more."""

import contextlib
import os
import resource
import signal
from dataclasses import dataclass

MB = 1_000_000
_TICKS_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Of /proc/PID/stat, counted from the state on: utime, stime, cutime and cstime; threads; resident pages.
_TIMES, _THREADS, _RESIDENT = slice(11, 15), 17, 21


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, of all of the box's processes together; ``memory_bytes`` is one process's address space, too.

    ``room_bytes`` and ``room_files`` are what its writable folder holds, with the run's files; of what it prints
    ``kept_bytes`` are kept (of each stream) and ``printed_bytes`` are allowed.
    """

    wall_s: float
    cpu_s: float
    memory_bytes: int = 256 * MB
    processes: int = 64
    room_bytes: int = 100 * MB
    room_files: int = 5_000
    file_bytes: int = 10 * MB
    open_files: int = 256
    kept_bytes: int = 100_000
    printed_bytes: int = 50 * MB

    def imposed(self) -> list[str]:
        """The program, before another with its arguments, that has the kernel hold it to these, and all that it starts.

        It is to be run within the box: only there does the kernel count the box's processes by themselves.
        """
        return ["prlimit", *(f"--{name}={self._most(kind, most)}" for name, kind, most in self._of_a_process()), "--"]

    def _of_a_process(self) -> list[tuple[str, int, int]]:
        return [
            ("as", resource.RLIMIT_AS, self.memory_bytes),
            ("cpu", resource.RLIMIT_CPU, int(self.cpu_s) + 1),
            ("fsize", resource.RLIMIT_FSIZE, self.file_bytes),
            ("nproc", resource.RLIMIT_NPROC, self.processes),
            ("nofile", resource.RLIMIT_NOFILE, self.open_files),
            ("memlock", resource.RLIMIT_MEMLOCK, 0),
            ("msgqueue", resource.RLIMIT_MSGQUEUE, 0),
            ("sigpending", resource.RLIMIT_SIGPENDING, 1_000),
            ("core", resource.RLIMIT_CORE, 0),
        ]

    @staticmethod
    def _most(kind: int, most: int) -> int:
        """Not more than this process may have itself."""
        _, hard = resource.getrlimit(kind)
        return most if hard == resource.RLIM_INFINITY else min(most, hard)


class Meter:
    """What a box uses: its processes by its own /proc, its files by those of its room."""

    def __init__(self, limits: Limits, *, proc: int, room: int) -> None:
        """``proc`` and ``room`` are file descriptors of folders; they stay the caller's."""
        self._limits, self._proc, self._room = limits, proc, room

    def breach(self) -> str:
        """What it uses too much of, "" if nothing; costs some 20 µs a process."""
        limits, processes, cpu_s, resident_bytes = self._limits, 0, 0.0, 0
        for fields in map(self._stat, os.listdir(self._proc)):
            if fields:
                processes += max(1, int(fields[_THREADS]))
                cpu_s += sum(map(int, fields[_TIMES])) / _TICKS_S
                resident_bytes += int(fields[_RESIDENT]) * _PAGE_BYTES
        space = os.fstatvfs(self._room)
        used = {
            "processes": processes
            > limits.processes + 10,  # the kernel holds it to these; 10 for bwrap's own and the dying
            "cpu": cpu_s > limits.cpu_s,
            "memory": resident_bytes > limits.memory_bytes + 32 * MB,  # libraries are counted once a process
            "files": space.f_files - space.f_ffree > limits.room_files,
        }
        return next((what for what, too_much in used.items() if too_much), "")

    def _stat(self, entry: str) -> list[str]:
        if not entry.isdigit():
            return []
        try:
            stat = os.open(f"{entry}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:  # it has ended
            return []
        try:
            text = os.read(stat, 4096).decode("utf-8", "replace")
        except OSError:
            return []
        finally:
            os.close(stat)
        return text[text.rindex(")") + 2 :].split()  # a process may call itself whatever it likes


def kill(pidfd: int) -> None:
    """The first process of a box: all others go with it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
