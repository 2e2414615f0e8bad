"""Commands that anybody may have written, in real boxes."""

import contextlib
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from agentsys.core.errors import (
    NotFound,
    SandboxUnavailable,
    StepCancelled,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
)
from agentsys.infrastructure.processes import wait_until
from agentsys.tools import registry, runner
from agentsys.tools.sandbox import building, room
from agentsys.tools.sandbox import run as sandbox
from agentsys.tools.testing import MemoryFiles, context
from tests.support import boxes


@pytest.fixture(autouse=True)
def _nothing_left():
    """A box leaves no process, no descriptor and no file."""
    boxes.needed()
    before = (len(os.listdir("/proc/self/fd")), set(os.listdir("/tmp")))
    yield
    assert wait_until(lambda: not boxes_of_ours(), timeout_s=5)
    assert len(os.listdir("/proc/self/fd")) == before[0]
    assert not [name for name in set(os.listdir("/tmp")) - before[1] if "work" in name or "bwrap" in name]


def boxes_of_ours() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.name() == "bwrap"]


def shell(call, command: str, **arguments):
    return call("shell.run", command=command, **arguments)


def printed(call, command: str, **arguments) -> str:
    return shell(call, command, **arguments)["stdout"]


# --- What it is for ----------------------------------------------------------------------
def test_a_command_gives_what_it_prints_and_the_files_that_it_has_made_or_changed(call, files):
    files.write("data.csv", "b\na\n")
    files.write("same.txt", "same")

    done = shell(call, "sort data.csv > sorted.csv; echo c >> data.csv; touch same.txt; echo hi; echo oh >&2")

    assert done == {
        "exit_code": 0, "stdout": "hi\n", "stderr": "oh\n", "skipped": {},
        "files": [{"name": "data.csv", "size": 6}, {"name": "sorted.csv", "size": 4}],
    }  # fmt: skip
    assert files.contents == {"data.csv": b"b\na\nc\n", "same.txt": b"same", "sorted.csv": b"a\nb\n"}


def test_a_script_of_many_lines_knows_the_words_of_a_shell(call):
    script = "set -e\nfor n in 1 2 3; do\n  total=$((total + n))\ndone\necho $total | tr 6 six | cat <(cat)"
    assert printed(call, script) == "s\n"


def test_an_exit_code_fails_the_step_and_changes_no_file_unless_it_is_asked_for(call, files):
    with pytest.raises(ToolFailed, match="exit code 3: oh") as caught:
        shell(call, "echo out; echo x > f; echo oh >&2; exit 3")
    assert (caught.value.data["exit_code"], caught.value.data["stdout"]) == (3, "out\n")
    assert files.contents == {}

    assert shell(call, "echo x > f; exit 3", allow_errors=True)["exit_code"] == 3
    assert shell(call, "kill -9 $$", allow_errors=True)["exit_code"] == 128 + 9
    assert files.contents == {"f": b"x\n"}


def test_a_command_sees_the_files_that_it_names(call, files):
    files.write("a", "1"), files.write("b", "2"), files.write("with space \xe4'\"$;.txt", "3")

    assert printed(call, "ls", files=["a"]) == "a\n"
    assert printed(call, "ls", files=[]) == ""
    assert printed(call, "cat *") == "123"
    with pytest.raises(NotFound):
        shell(call, "ls", files=["c"])


def test_values_are_given_as_variables_and_never_read_as_part_of_the_command(call):
    nasty = "$(touch hacked) `id` ' \" \n; exit 9 \\ \xe4"
    done = shell(call, 'printf %s "$text"; printf %s "$rows" >&2', inputs={"text": nasty, "rows": [{"n": 1}, None]})
    assert (done["stdout"], done["stderr"], done["files"]) == (nasty, '[{"n": 1}, null]', [])


@pytest.mark.parametrize("name", ["", "a b", "1a", "a=b", "a;b", "a\n", "\xe4", "a" * 65])
def test_names_of_inputs_are_names(call, name):
    with pytest.raises(ToolArgumentsInvalid):
        shell(call, "true", inputs={name: "x"})


def test_a_variable_of_the_loader_reaches_no_program_before_the_command(call, files):
    files.write("evil.so", "no library")
    done = shell(
        call, "echo fine", inputs={"LD_PRELOAD": "/home/work/evil.so", "BASH_ENV": "/home/work/x", "PATH": "/"}
    )
    assert done["stdout"] == "fine\n"


def test_a_file_that_is_removed_or_renamed_stays_one_of_the_run(call, files):
    files.write("a", "1")

    assert shell(call, "mv a b")["files"] == [{"name": "b", "size": 1}]
    assert files.contents == {"a": b"1", "b": b"1"}


def test_boxes_know_nothing_of_each_other(call, tmp_path):
    shell(call, "echo secret > /tmp/left; echo secret > /home/work/.left; (sleep 30 &) ")
    assert (
        printed(
            call, "cat /tmp/left 2>&1; ps -e 2>/dev/null | grep -c sleep; ls -A /home/work", allow_errors=True
        ).split("\n")[1]
        == "0"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": ""},
        {"command": "x" * 50_001},
        {"command": "a\0b"},
        {"command": "\ud800"},
        {"command": 5},
        {"command": "ls", "files": "a"},
        {"command": "ls", "max_seconds": 0},
        {"command": "ls", "max_seconds": 101},
        {"command": "ls", "max_memory_mb": 2_000},
    ],
)
def test_arguments_are_checked(call, arguments):
    with pytest.raises(ToolArgumentsInvalid):
        call("shell.run", **arguments)


def test_bytes_that_are_no_text_are_no_bugs(call):
    assert printed(call, r"printf 'a\0b\377'") == "a\ufffdb\ufffd"


# --- What it must not see ----------------------------------------------------------------
def test_it_sees_a_system_and_nothing_else_of_this_machine(call, tmp_path: Path):
    (tmp_path / "secret").write_text("s")
    paths = f"""{tmp_path}/secret {Path(__file__)} {Path.home()}/.bashrc /etc/passwd /etc/shadow /var /run/secrets /root
        /mnt /opt /srv /sys /boot /usr/local /dev/sda /dev/vda /dev/mem /dev/pts""".split()
    looks = "; ".join(f"[ -e '{path}' ] && echo '{path}'" for path in paths)

    assert printed(call, f"{looks}; true") == ""
    assert set(printed(call, "ls /").split()) <= {
        "bin",
        "dev",
        "home",
        "lib",
        "lib64",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "etc",
    }
    assert set(printed(call, "ls /etc").split()) <= {"alternatives", "ld.so.cache"}
    assert printed(call, "ls /run") == "command\n"


def test_it_has_no_environment_of_ours_and_no_descriptor(call, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OURS", "do not tell")

    everything = printed(
        call, "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; ls -l /proc/self/fd /proc/1/fd 2>&1"
    )

    assert "do not tell" not in everything
    assert "SECRET" not in everything
    assert "socket" not in everything


def test_it_sees_no_other_process_and_can_signal_none(call):
    seen = printed(call, "ls -d /proc/[0-9]* | wc -l")
    assert int(seen) < 8
    assert printed(call, f"kill -0 {os.getpid()} 2>&1 || echo no").endswith("no\n")
    shell(call, "kill -9 -1; kill -9 1", allow_errors=True)  # and we are still here


def test_it_has_no_network(call):
    with pytest.raises(ToolFailed):
        shell(call, "exec 3<>/dev/tcp/127.0.0.1/1")
    assert printed(call, "cat /proc/net/dev | grep -c :") == "1\n"  # its own loopback
    assert printed(call, "exec 3<>/dev/tcp/1.1.1.1/53 2>/dev/null || echo unreachable", allow_errors=True) in (
        "",
        "unreachable\n",
    )


def test_it_cannot_write_beyond_its_folder(call):
    for place in ("/", "/usr/bin", "/etc", "/dev", "/run", "/proc", "/lib", "/usr/share"):
        assert printed(call, f"touch {place}/x 2>/dev/null || echo refused") == "refused\n", place
    assert printed(call, "mkdir /home/x && touch /home/x/y /tmp/z && echo fine") == "fine\n"
    assert printed(call, "echo x > /run/command 2>/dev/null || echo refused") == "refused\n"


def test_it_has_no_rights_and_gets_none(call):
    status = dict(line.split(":\t", 1) for line in printed(call, "cat /proc/self/status").splitlines())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert printed(call, "id -u") == "65534\n"
    for grasp in ("mount -t tmpfs x /tmp", "unshare -Ur true", "unshare -n true", "chroot / true", "mknod d b 8 0",
                  "su -c true", "nsenter -t 1 -a true", "dmesg", "echo b > /proc/sysrq-trigger"):  # fmt: skip
        assert printed(call, f"{grasp} >/dev/null 2>&1 || echo refused").endswith("refused\n"), grasp


# --- What it leaves in its folder --------------------------------------------------------
def test_links_and_what_is_no_file_are_not_read_back(call, files):
    done = shell(
        call,
        "ln -s /etc/passwd link; ln -s / all; ln -s link chain; mkfifo pipe; exec 9<>pipe; mkdir -p d/e; echo x > d/f;"
        "echo y > $'two\\nlines'; echo z > $'ctrl\\a'; echo b > $'\\377'; echo c > 'back\\slash';"
        "echo fine > fine; chmod 777 fine; echo h > .hidden",
    )

    assert files.contents == {"fine": b"fine\n", ".hidden": b"h\n"}
    assert {done["skipped"][name] for name in ("link", "all", "chain")} == {"a link"}
    assert (done["skipped"]["pipe"], done["skipped"]["d"]) == ("not a file", "a folder")
    assert len(done["skipped"]) == 9


def test_its_folder_may_be_hidden_renamed_or_removed(call, files):
    files.write("a", "1")
    assert shell(call, "echo x > b; chmod 000 .")["files"] == [{"name": "b", "size": 2}]
    assert shell(call, "cd /; mv /home/work /home/w2; ln -s /etc /home/work; echo x > /home/w2/c")["files"] == [
        {"name": "c", "size": 2}
    ]
    assert shell(call, "rm -rf /home/work /home/tmp; cd /; ln -s /usr/bin /home/work")["files"] == []
    assert set(files.contents) == {"a", "b", "c"}


def test_a_hard_link_and_a_sparse_file_are_what_they_contain(call, files):
    shell(call, "echo x > a; ln a b; truncate -s 5M hole")
    assert (files.contents["b"], len(files.contents["hole"])) == (b"x\n", 5 * 2**20)


def test_more_than_is_read_back_is_refused_and_changes_nothing(call, files, monkeypatch):
    with pytest.raises(ToolOutputTooLarge, match="200 files"):
        shell(call, "for n in $(seq 300); do echo > f$n; done")
    monkeypatch.setattr(room, "MAX_CHANGED_BYTES", 1_000)
    with pytest.raises(ToolOutputTooLarge, match="1000 bytes"):
        shell(call, "head -c 2000 /dev/zero > f")
    assert files.contents == {}


def test_files_larger_than_a_box_are_refused_before_there_is_one(call, files):
    for n in range(6):
        files.write(f"f{n}", bytes(9_000_000))
    with pytest.raises(ToolFailed, match="name those"):
        shell(call, "true")
    assert shell(call, "wc -c f1", files=["f1"])["stdout"] == "9000000 f1\n"


def test_a_name_too_long_for_a_folder_says_so(call, files):
    files.write("\xe4" * 200, "x")
    with pytest.raises(ToolFailed, match="too long"):
        shell(call, "true")
    assert shell(call, "true", files=[])["exit_code"] == 0


# --- What it may use ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "limit"),
    [
        ("sleep 100", "time"),
        ("trap '' TERM INT HUP; sleep 100 & setsid sleep 100 & wait", "time"),
        ("while :; do :; done", "cpu|time"),
        ("for n in 1 2 3 4; do (while :; do :; done) & done; wait", "cpu|time"),
        ("yes", "output"),
        ("head -c 100000000000 /dev/zero", "output"),
        ("i=0; while :; do : > f$i; i=$((i+1)); done", "files"),
        ("i=0; while :; do mkdir d; cd d || exit; done", "files|exit|time"),
        ("for n in $(seq 8); do { head -c 50000000 /dev/zero; sleep 20; } | tail -c 60000000 & done; wait", "memory"),
    ],
)
def test_what_uses_too_much_is_ended_as_a_whole(call, files, command, limit):
    began = time.monotonic()
    with pytest.raises(ToolFailed) as caught:
        shell(call, command, max_seconds=2)
    assert caught.value.data.get("limit", "exit") in limit.split("|"), caught.value.message
    assert time.monotonic() - began < 8
    assert files.contents == {}
    assert printed(call, "echo still here") == "still here\n"


@pytest.mark.parametrize(
    "command",
    [
        "f() { f | f & }; f; wait",
        "for n in $(seq 200); do sleep 5 & done; jobs | wc -l; kill %1; exit 1",
        "x=a; while :; do x=$x$x; done",
        "head -c 20000000 /dev/zero > f",
        "for n in $(seq 100); do head -c 9000000 /dev/zero > f$n || exit 1; done",
        "for n in $(seq 100); do head -c 9000000 /dev/zero > /tmp/f$n || exit 1; done",
        "ulimit -v unlimited && ulimit -u unlimited",
        'i=3; while [ $i -lt 2000 ]; do eval "exec $i</dev/null" || exit 1; i=$((i+1)); done',
    ],
)
def test_what_asks_for_too_much_is_refused_by_the_kernel(call, files, command):
    began = time.monotonic()
    with contextlib.suppress(ToolFailed, ToolOutputTooLarge):
        shell(call, command, max_seconds=5, max_memory_mb=64)
    assert time.monotonic() - began < 9
    assert not any(len(content) > 10_000_000 for content in files.contents.values())
    assert printed(call, "echo still here") == "still here\n"


def test_what_is_printed_is_cut_off_without_failing(call):
    done = shell(call, "head -c 3000000 /dev/zero | tr '\\0' x; echo e >&2")
    assert done["stdout"] == "x" * 100_000 + "\n… (cut off: 3000000 bytes)"
    assert done["stderr"] == "e\n"


def test_the_first_process_to_go_when_memory_runs_out_is_one_of_a_box(call):
    assert printed(call, "cat /proc/self/oom_score_adj") == "1000\n"


# --- How it ends -------------------------------------------------------------------------
def test_background_processes_end_with_the_command(call):
    began = time.monotonic()
    assert printed(call, "sleep 60 & setsid nohup sleep 61 >/dev/null 2>&1 & disown -a; echo done") == "done\n"
    assert time.monotonic() - began < 5


def test_a_cancel_ends_it_at_once_and_changes_nothing(files):
    ctx = context(files=files)
    threading.Timer(0.5, lambda: setattr(ctx, "cancelled", True)).start()
    began = time.monotonic()
    with pytest.raises(StepCancelled):
        runner.run(registry.get("shell.run"), {"command": "echo x > f; sleep 60"}, ctx)
    assert time.monotonic() - began < 3
    assert files.contents == {}


def test_the_steps_deadline_comes_first():
    spec, began = registry.get("shell.run"), time.monotonic()
    with pytest.raises(StepTimeout):
        runner.run(spec, {"command": "sleep 60"}, context(deadline_at=time.monotonic() + 1.5))
    with pytest.raises(StepTimeout):
        runner.run(spec, {"command": "true"}, context(deadline_at=time.monotonic() - 1))
    assert time.monotonic() - began < 3


def test_a_process_that_dies_takes_its_box_along(tmp_path):
    """Killed, so that nothing of it can clean up."""
    child = os.fork()
    if child == 0:  # no pytest in here
        try:
            runner.run(registry.get("shell.run"), {"command": "trap '' HUP TERM; sleep 4242 & sleep 4242"}, context())
        finally:
            os._exit(0)
    sleeping = lambda: [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "4242"]]  # noqa: E731
    assert wait_until(lambda: len(sleeping()) == 2, timeout_s=10)

    os.kill(child, 9)
    os.waitpid(child, 0)

    assert wait_until(lambda: not sleeping(), timeout_s=3)


# --- Where it cannot be run --------------------------------------------------------------
def test_without_bubblewrap_it_says_what_to_install(call, monkeypatch, files):
    monkeypatch.setattr(building, "PROGRAM", "bwrap-that-is-not-there")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap") as caught:
        shell(call, "echo x > f")
    assert (caught.value.code, caught.value.retryable, files.contents) == ("sandbox_unavailable", False, {})


def test_without_user_namespaces_it_says_that(call, monkeypatch, tmp_path):
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(building, "_NOBODY", os.geteuid())  # who may read the test's folder
    monkeypatch.setattr(building, "PROGRAM", str(refuses))
    with pytest.raises(SandboxUnavailable, match=r"user namespaces.*No permissions to create new namespace"):
        shell(call, "true")


def test_a_worker_learns_at_its_start_why_no_command_can_be_run(monkeypatch):
    assert sandbox.why_not() == ""
    monkeypatch.setattr(building, "PROGRAM", "bwrap-that-is-not-there")
    assert "apt-get install bubblewrap" in sandbox.why_not()
    monkeypatch.setattr(building, "PROGRAM", "false")
    assert "user namespaces" in sandbox.why_not()


def test_an_unknown_processor_is_refused(call, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="x86_64"):
        shell(call, "true")
    monkeypatch.undo()
    assert MemoryFiles().contents == {}
