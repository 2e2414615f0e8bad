"""How a box is made: bubblewrap builds it, and a gate in it waits until we hold what we need of it.

That are descriptors of its folder, of its /proc and of its first process, taken before anything of the command runs.
The box needs no program of ours.  Where this process is root, bubblewrap is nobody: the kernel bounds no
processes of root's.
"""

import json
import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil

from agentsys.core.errors import SandboxUnavailable
from agentsys.tools.sandbox import layout, seccomp
from agentsys.tools.sandbox.box import Box, Stream
from agentsys.tools.sandbox.limits import Limits, Meter, kill
from agentsys.tools.sandbox.sheets import Sheets

#: How long bubblewrap may take to build a box.
START_S = 10.0
#: Says that it is there, waits for a line, and becomes the command.
_GATE = 'printf .; read -r _; exec "$0" "$1" </dev/null'
_COMMAND = "/run/command"
_NOBODY = 65_534
PROGRAM = "bwrap"
#: The first to be killed where memory runs out.
_OOM_SCORE = b"1000"


@contextmanager
def open_box(command: str, files: Mapping[str, bytes], limits: Limits) -> Iterator[Box]:
    """A box whose command has been let go; nothing of it is left afterwards.

    Raises:
        SandboxUnavailable: this machine has no bubblewrap, or does not let us make namespaces.
    """
    with ExitStack() as stack:
        report, reported = os.pipe()
        stack.callback(os.close, report)
        try:
            process = _bubblewrap(command, files, limits, reported)
        finally:
            os.close(reported)
        stack.callback(_end, process)
        box = _entered(process, report, limits, stack)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        yield box


def _bubblewrap(command: str, files: Mapping[str, bytes], limits: Limits, report: int) -> "subprocess.Popen[bytes]":
    filter_ = seccomp.program()
    if filter_ is None:
        raise SandboxUnavailable("Commands can be run on x86_64 and aarch64 only; this is another processor.")
    with Sheets() as sheets:
        arguments = [*layout.arguments(room_bytes=limits.room_bytes), "--info-fd", str(report)]
        arguments += ["--ro-bind-data", str(sheets.put(command.encode("utf-8", "replace"))), _COMMAND]
        for name, content in files.items():
            arguments += ["--file", str(sheets.put(content)), f"{layout.WORK}/{name}"]
        arguments += [*layout.closed(), "--seccomp", str(sheets.put(filter_))]
        told = str(sheets.put("\0".join(arguments).encode("utf-8", "replace")))
        words = [PROGRAM, "--args", told, "--", *limits.imposed(), "/bin/sh", "-c", _GATE, layout.shell(), _COMMAND]
        return _started(words, [*sheets.descriptors, report])


def _started(words: list[str], descriptors: list[int]) -> "subprocess.Popen[bytes]":
    nobody = _NOBODY if os.geteuid() == 0 else None
    pipe, environ = subprocess.PIPE, {"PATH": "/usr/bin:/bin:/usr/local/bin"}
    try:
        return subprocess.Popen(  # noqa: S603 - our own words
            words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, pass_fds=descriptors, env=environ, cwd="/",
            start_new_session=True, user=nobody, group=nobody, extra_groups=None if nobody is None else [],
        )  # fmt: skip
    except OSError as error:
        raise SandboxUnavailable(
            "Commands need bubblewrap on the machines of the compute workers (apt-get install bubblewrap); it cannot "
            f"be started here: {error.strerror}."
        ) from None


def _entered(process: "subprocess.Popen[bytes]", report: int, limits: Limits, stack: ExitStack) -> Box:
    """The box, once its gate is there: its limits imposed, its folders in our hands."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_S)[0] or os.read(process.stdout.fileno(), 1) != b".":
        raise SandboxUnavailable(_why_not(process))
    first_pid = int(json.loads(os.read(report, 4096))["child-pid"])
    first = _opened(stack, os.pidfd_open(first_pid))
    stack.callback(kill, first)  # before its descriptor is closed
    (gate,) = psutil.Process(first_pid).children()
    _write(f"/proc/{gate.pid}/oom_score_adj", _OOM_SCORE)
    room = _opened(stack, _folder(f"/proc/{gate.pid}/root{layout.WORK}"))
    proc = _opened(stack, _folder(f"/proc/{gate.pid}/root/proc"))
    kept = limits.kept_bytes
    return Box(process, limits, Meter(limits, proc=proc, room=room), first, room, Stream(kept), Stream(kept))


def _why_not(process: "subprocess.Popen[bytes]") -> str:
    process.kill()
    _, said = process.communicate(timeout=START_S)
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
    return (
        "Commands need user namespaces, which this machine, or the container that it is, does not let bubblewrap "
        f"make ({last or 'it did not start in time'})."
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()  # its box ends with it
    with process:  # pipes closed, and waited for
        pass


def _opened(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _folder(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        raise SandboxUnavailable(
            "Commands need a worker that may look into the boxes it makes: run it as an ordinary user, or with the "
            "capability SYS_PTRACE."
        ) from None


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
