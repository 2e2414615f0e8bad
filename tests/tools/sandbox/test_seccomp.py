"""The filter of system calls, in force."""

import base64
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from agentsys.tools.sandbox import program, seccomp

PROGRAMS = Path(program.__file__).parent.parent / "programs"
#: Prints the errno of each call that is asked for, 0 if it went through.
ASK = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
import base64, chamber
asked = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
chamber._shut(base64.b64decode(asked["filter"]))
out = []
for number, arguments in asked["calls"]:
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    out.append(ctypes.get_errno())
print(json.dumps(out))
"""
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")


def errnos(*calls: tuple[int, ...], sockets: tuple[int, ...] = seccomp.SOCKETS) -> list[int]:
    given = {"filter": base64.b64encode(seccomp.program(sockets=sockets) or b"").decode()}
    given["calls"] = [[number, arguments] for number, *arguments in calls]
    done = subprocess.run(
        [sys.executable, "-c", ASK, PROGRAMS], input=json.dumps(given), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_calls_that_a_box_may_not_make_are_refused():
    ptrace, memfd, keyctl, shmget, unshare, mount, bpf, io_uring, readv = 101, 319, 250, 29, 272, 165, 321, 425, 310
    asked = [
        (number, 0, 0, 0, 0, 0) for number in (ptrace, memfd, keyctl, shmget, unshare, mount, bpf, io_uring, readv)
    ]
    assert errnos(*asked) == [seccomp.EPERM] * len(asked)


def test_clone3_is_missing_so_that_clone_is_used_and_that_makes_no_namespace():
    clone, clone3, new_user, new_net = 56, 435, 0x10000000, 0x40000000
    assert errnos((clone3, 0, 0), (clone, new_user, 0, 0, 0, 0), (clone, new_net, 0, 0, 0, 0)) == [
        seccomp.ENOSYS,
        seccomp.EPERM,
        seccomp.EPERM,
    ]


def test_sockets_are_of_a_few_families_or_of_none():
    socket, unix, inet, inet6, netlink, packet, alg, vsock = 41, 1, 2, 10, 16, 17, 38, 40
    asked = [(socket, family, 1, 0) for family in (unix, inet, inet6, netlink, packet, alg, vsock)]
    assert errnos(*asked) == [0, 0, 0, *[seccomp.EAFNOSUPPORT] * 4]
    assert errnos(*asked, sockets=()) == [seccomp.EAFNOSUPPORT] * 7


def test_ordinary_calls_go_through():
    getpid, getuid, uname_missing = 39, 102, 100_000
    assert errnos((getpid,), (getuid,), (uname_missing,)) == [0, 0, seccomp.ENOSYS]


def test_the_same_calls_by_the_other_table_are_refused():
    assert errnos((0x40000000 | 39,)) == [seccomp.EPERM]
