"""Which system calls a box may not make: a filter of the kernel, written down as its program.

What a box cannot reach by files and networks it could still ask of the kernel: memory that no limit counts
(memfd, System V), keys of the user outside, other processes' memory, more namespaces, sockets of the hypervisor,
and parts of the kernel that have been broken often.  Source: the lists of Docker's default profile.
"""

import platform
import struct
from dataclasses import dataclass

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
#: Numbers from here on are the same calls by another table (x32).
_X32 = 0x40000000
_CLONE3 = 435
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACES = 0x7E020000
SOCKETS = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
#: io_uring, the new mount calls, pidfd_getfd, process_madvise, quotactl_fd, memfd_secret: the same on every machine.
_REFUSED_ANYWHERE = (*range(425, 434), 438, 440, 442, 443, 447)


@dataclass(frozen=True)
class _Machine:
    architecture: int
    clone: int
    socket: int
    refused: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        architecture=0xC000003E,
        clone=56,
        socket=41,
        refused=(
            *(29, 30, 64, 68, 240),  # shmget, shmat, semget, msgget, mq_open
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(248, 249, 250, 319),  # add_key, request_key, keyctl, memfd_create
            *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
            *(303, 304, 278, 323),  # name_to_handle_at, open_by_handle_at, vmsplice, userfaultfd
            *(246, 320, 175, 313, 176, 321, 298),  # kexec, modules, bpf, perf_event_open
            *(103, 154, 163, 167, 168, 169, 172, 173, 179, 300),  # syslog … fanotify_init
        ),
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7,
        clone=220,
        socket=198,
        refused=(
            *(194, 196, 190, 186, 180),
            *(117, 270, 271, 272),
            *(217, 218, 219, 279),
            *(41, 51, 40, 39, 97, 268),
            *(264, 265, 75, 282),
            *(104, 294, 105, 273, 106, 280, 241),
            *(116, 89, 224, 225, 142, 60, 262),
        ),
    ),
}


def program(*, sockets: tuple[int, ...] = SOCKETS) -> bytes | None:
    """The filter for this machine, as ``bwrap --seccomp`` reads it; None: no table of its calls is at hand.

    Args:
        sockets: the families of which sockets may be made.
    """
    machine = _MACHINES.get(platform.machine())
    return None if machine is None else b"".join(_written(machine, sockets))


def _written(machine: _Machine, sockets: tuple[int, ...]) -> list[bytes]:
    """The instructions; a jump goes so many further, if its test holds or else."""
    refused = (*machine.refused, *_REFUSED_ANYWHERE)
    ends = [
        _op(_RETURN, _ALLOW),
        _op(_RETURN, _ERRNO | EPERM),
        _op(_RETURN, _ERRNO | ENOSYS),
        _op(_LOAD, _FIRST_ARGUMENT),  # of clone
        _op(_ANY_BIT, _NAMESPACES, 0, 1),
        _op(_RETURN, _ERRNO | EPERM),
        _op(_RETURN, _ALLOW),
        _op(_LOAD, _FIRST_ARGUMENT),  # of socket
        *(_op(_EQUAL, family, len(sockets) - n, 0) for n, family in enumerate(sockets)),
        _op(_RETURN, _ERRNO | EAFNOSUPPORT),
        _op(_RETURN, _ALLOW),
    ]
    allow, refuse, missing, clone, socket = 0, 1, 2, 3, 7
    tests = [(_AT_LEAST, _X32, refuse), *((_EQUAL, number, refuse) for number in refused)]
    tests += [(_EQUAL, _CLONE3, missing), (_EQUAL, machine.clone, clone), (_EQUAL, machine.socket, socket)]
    head = [
        _op(_LOAD, _ARCHITECTURE),
        _op(_EQUAL, machine.architecture, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    left = [len(tests) - 1 - n for n in range(len(tests))]
    return [*head, *(_op(code, k, left[n] + end, 0) for n, (code, k, end) in enumerate(tests)), *ends[allow:]]


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)
