"""What each of these programs does first and last: bounds itself, takes its job, gives its answer."""

import base64
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER, _INSTRUCTION_BYTES = 2, 8


class _Filter(ctypes.Structure):
    """The kernel's sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class Refused(Exception):
    """The job cannot be done; the message says why, to whoever gave it."""


def work(do: Callable[[dict[str, Any]], Any]) -> None:
    """Do the job that is on the standard input; answer in one line of JSON on the standard output."""
    job = json.load(sys.stdin)
    _bound(job["parent"], job["memory_bytes"], job["cpu_s"])
    _shut(base64.b64decode(job["filter"]))
    try:
        answer = {"value": do(job)}
    except Refused as error:
        answer = {"refused": str(error)[:1_000]}
    except MemoryError:
        answer = {"refused": "It needs more memory than it may have."}
    json.dump(answer, sys.stdout, allow_nan=False)


def _bound(parent: int, memory_bytes: int, cpu_s: int) -> None:
    """No file can be written and no program started with more rights; it ends with its parent."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked to be told
        os._exit(1)
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _shut(instructions: bytes) -> None:
    """No socket can be made, no other process looked into (``sandbox.seccomp``); nothing where there is no filter."""
    if instructions:
        told = _Filter(len(instructions) // _INSTRUCTION_BYTES, instructions)
        if ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(told), 0, 0):
            os._exit(1)
