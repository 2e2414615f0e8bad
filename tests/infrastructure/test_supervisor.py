"""The supervisor's parts, each on small real processes: restarts, groups, guard, ports, files."""

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from agentsys.infrastructure import supervisor_keeper
from agentsys.infrastructure.processes import Process, SetupFailed, free_port, reserve_port, wait_until
from agentsys.infrastructure.supervisor_children import lane_numbers
from agentsys.infrastructure.supervisor_files import Files, cut_logs, hide_logs
from agentsys.infrastructure.supervisor_guard import Guard
from agentsys.infrastructure.supervisor_keeper import Keeper

ROOT = Path(__file__).parents[2]
PARENT = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
GUARDED = f"""
import sys, time
from pathlib import Path
from agentsys.infrastructure.processes import Process
from agentsys.infrastructure.supervisor_guard import Guard
child = Process("parent", [sys.executable, "-c", {PARENT!r}], log=Path(sys.argv[1]))
child.start()
guard = Guard()
guard.watch({{child.pid}})
print(child.pid, guard.pid, flush=True)
time.sleep(600)
"""


class Child(Process):
    def ready(self) -> bool:
        return self.alive()


@pytest.fixture
def make_child(tmp_path: Path) -> Callable[..., Child]:
    def make(*command: str) -> Child:
        return Child("child", command, log=tmp_path / "logs" / "child.log")

    return make


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def first_number(log: Path) -> int:
    assert wait_until(lambda: log.exists() and log.read_text().endswith("\n"), timeout_s=10)
    return int(log.read_text().split()[0])


# --- Restarts -------------------------------------------------------------------------
def test_a_killed_child_is_started_again_at_once_and_told_in_one_line(
    make_child: Callable[..., Child],
) -> None:
    child = make_child("/bin/sleep", "600")
    keeper = Keeper(child)
    keeper.start()
    assert keeper.look() is None
    before = child.pid

    child.send(signal.SIGKILL)
    assert child.wait(5)

    assert keeper.look() == "child ended (signal 9) and was started again"
    assert (child.alive(), child.pid != before) == (True, True)
    child.stop()


def test_a_child_that_keeps_crashing_is_started_more_and_more_slowly(
    make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = make_child("/bin/sh", "-c", "echo 'Error: no luck' >&2; exit 3")
    now = 1000.0
    monkeypatch.setattr(supervisor_keeper.time, "monotonic", lambda: now)
    keeper = Keeper(child)
    keeper.start()

    waits = []
    for _ in range(3):
        assert child._popen is not None
        child._popen.wait()
        while (line := keeper.look()) is None or "keeps ending" not in line:
            now += 0.125
            if child._popen is not None:
                child._popen.wait()
        waits.append(line)

    tail = "(exit 3): Error: no luck; next start in"
    assert waits == [f"child keeps ending {tail} {pause} s" for pause in ("0.5", "1", "2")]


def test_a_child_that_was_started_well_is_started_again_at_once_however_often_it_is_killed(
    make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    child, now = make_child("/bin/sleep", "600"), 1000.0
    monkeypatch.setattr(supervisor_keeper.time, "monotonic", lambda: now)
    keeper = Keeper(child)
    keeper.start()

    for _ in range(6):
        now += supervisor_keeper.HEALTHY_S + 0.1
        child.send(signal.SIGKILL)
        assert child._popen is not None
        child._popen.wait()
        assert keeper.look() == "child ended (signal 9) and was started again"
    child.stop()


# --- Nothing is left ------------------------------------------------------------------
def test_the_children_of_a_killed_child_end_with_it(make_child: Callable[..., Child]) -> None:
    child = make_child(sys.executable, "-c", PARENT)
    child.start()
    grandchild = first_number(child.log)
    assert not gone(grandchild)

    child.send(signal.SIGKILL)

    assert child.wait(5)
    assert wait_until(lambda: gone(grandchild), timeout_s=5)


def test_a_child_that_ignores_the_request_to_stop_is_killed(make_child: Callable[..., Child]) -> None:
    child = make_child("/bin/sh", "-c", "trap '' TERM; echo 1; while :; do sleep 600; done")
    child.start()
    first_number(child.log)
    child.stop(timeout_s=0.2)
    assert not child.alive()
    assert child.exit_code == -signal.SIGKILL


def test_children_and_grandchildren_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = Popen([sys.executable, "-c", GUARDED, str(log)], stdout=PIPE, text=True, cwd=ROOT)
    assert parent.stdout
    child, guard = map(int, parent.stdout.readline().split())
    grandchild = first_number(log)

    parent.kill()
    parent.communicate()

    assert wait_until(lambda: all(map(gone, (child, grandchild, guard))), timeout_s=5)


def test_a_killed_guard_is_replaced_and_told_all(make_child: Callable[..., Child]) -> None:
    child = make_child("/bin/sleep", "600")
    child.start()
    assert child.pid
    guard = Guard()
    guard.watch({child.pid})
    first = guard.pid
    assert first
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: gone(first), timeout_s=5)

    guard.watch({child.pid})
    assert guard.pid != first
    assert guard._popen
    assert guard._popen.stdin
    guard._popen.stdin.close()  # what it sees when we are killed
    assert child.wait(5)
    assert guard._popen.wait(5) == 0


def test_a_guard_that_is_closed_kills_nobody(make_child: Callable[..., Child]) -> None:
    child = make_child("/bin/sleep", "600")
    child.start()
    assert child.pid
    guard = Guard()
    guard.watch({child.pid})
    guard.close()
    assert child.alive()
    child.stop()


# --- Ports ----------------------------------------------------------------------------
def listener(port: int, *, shared: bool) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind(("127.0.0.1", port))
    except OSError:
        server.close()
        raise
    server.listen()
    return server


def test_a_held_port_is_for_our_web_process_and_for_no_other_stack() -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
        with reserve_port(port) as other:
            assert other.getsockname()[1] != port
        with pytest.raises(OSError, match="in use"):
            listener(port, shared=False)
        with listener(port, shared=True), reserve_port(port) as other:
            assert other.getsockname()[1] != port


def test_ports_are_not_among_those_of_outgoing_connections() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not first <= free_port() <= last


# --- Files, options -------------------------------------------------------------------
def test_secrets_and_addresses_stay_and_are_private(tmp_path: Path) -> None:
    files = Files(tmp_path / "data")
    secret = files.secret("secret_key")
    files.keep(database_url="postgresql://…", redis_url=None)

    assert Files(tmp_path / "data").secret("secret_key") == secret
    assert files.services() == {"secret_key": secret, "database_url": "postgresql://…"}
    assert stat.S_IMODE(files.services_file.stat().st_mode) == 0o600


def test_a_broken_services_file_is_one_clear_line(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.services_file.write_text("{")
    with pytest.raises(SetupFailed, match=r"services\.json cannot be read: .*; delete it$"):
        files.secret("secret_key")
    assert files.services_file.read_text() == "{"


def test_a_data_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/agentsys")):
        with pytest.raises(SetupFailed, match=rf"^AGENTSYS_DATA_DIR: {folder} cannot be made: [A-Z]"):
            Files(folder).secret("secret_key")


def test_logs_are_private_those_of_an_earlier_version_too(
    tmp_path: Path, make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentsys.infrastructure.supervisor_files.MAX_LOG_BYTES", 10)
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    (logs / "web.log").write_text("a long line\n")
    (logs / "web.log").chmod(0o644)

    hide_logs(logs)
    child = make_child("/bin/true")
    child.start()
    assert child.wait(5)
    cut_logs(logs)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (logs, *logs.iterdir())}
    assert modes == {"logs": 0o700, "web.log": 0o600, "web.log.1": 0o600, "child.log": 0o600}


def test_a_long_log_is_cut_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentsys.infrastructure.supervisor_files.MAX_LOG_BYTES", 10)
    log = tmp_path / "web.log"
    with log.open("a") as writer:
        writer.write("a long line\n")
        writer.flush()
        cut_logs(tmp_path)
        writer.write("next\n")
    assert (log.read_text(), (tmp_path / "web.log.1").read_text()) == ("next\n", "a long line\n")


def test_numbers_of_lanes_are_read_or_refused() -> None:
    assert lane_numbers(["network=2", "compute=4"], least=0) == {"network": 2, "compute": 4}
    for wrong in ("network", "network=", "network=-1", "gpu=1", "network=1000"):
        with pytest.raises(SetupFailed, match="is not LANE=NUMBER"):
            lane_numbers([wrong], least=0)
    with pytest.raises(SetupFailed):
        lane_numbers(["network=0"], least=1)
