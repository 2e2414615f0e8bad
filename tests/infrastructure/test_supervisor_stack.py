"""``manage.py up`` on real processes: what it tells, what it restarts, and that nothing is left."""

import base64
import http.client
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import psutil
import pytest

from agentsys.core import procs
from agentsys.infrastructure.embedded import scratch
from agentsys.infrastructure.processes import free_port, wait_until
from tests.support.stack import ROOT, UP_S, Up, environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

NAMES = ["flower", "postgres", "redis", "web", *(f"worker-{it}" for it in ("compute", "model", "network", "system"))]
RESTART_S, READY_S = 2.0, 60.0


def get(url: str, path: str, *, method: str = "GET", login: str = "") -> int:
    """The HTTP status; 0 if nobody answers."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def started_at(pid: int) -> float:
    """Seconds of CLOCK_BOOTTIME; fails for a process that has ended."""
    ticks = procs.of(pid).start
    assert ticks
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with scratch() as folder, Up(folder) as stack:
        yield stack.wait_until_ready()


# --- A stack that runs ----------------------------------------------------------------
def test_endpoints_say_all_that_others_need_and_are_private(up: Up) -> None:
    found = up.endpoints
    assert sorted(found) == ["admin", "api", "flower", "metrics", "password", "processes", "username"]
    assert sorted(found["processes"]) == NAMES
    assert all(psutil.pid_exists(pid) for pid in found["processes"].values())
    assert stat.S_IMODE(up.endpoints_file.stat().st_mode) == 0o600
    assert get(found["api"], "/readyz") == 200


def test_the_password_is_shown_in_the_terminal_and_in_no_log(up: Up) -> None:
    password = up.endpoints["password"]
    assert password in up.log.read_text()
    assert not [log.name for log in (up.folder / "logs").iterdir() if password in log.read_text()]


def test_flower_wants_a_login_and_changes_nothing(up: Up) -> None:
    found = up.endpoints
    login = f"{found['username']}:{found['password']}"
    shut_down = "/api/worker/shutdown/network@" + socket.gethostname()
    assert get(found["flower"], "/tasks") == 401
    assert get(found["flower"], "/tasks", login=login) == 200
    assert get(found["flower"], "/metrics") == 401
    assert get(found["flower"], "/metrics", login=login) == 200
    assert get(found["flower"], shut_down, method="POST", login=login) in (403, 405)
    assert psutil.pid_exists(found["processes"]["worker-network"])


def test_a_second_up_in_the_same_folder_is_one_clear_line(up: Up) -> None:
    before = up.endpoints
    with Up(up.folder) as second:
        assert second.process.wait(UP_S) == 1
        assert second.log.read_text() == f"CommandError: agentsys runs already in {up.folder}; stop it first\n"
    assert up.endpoints == before


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_process_is_started_again_within_two_seconds(up: Up, name: str) -> None:
    """From the kill to the start of the new process, both as the kernel dates them.  When that is ready (an
    import, a recovery) depends on the machine, and is waited for by itself."""
    before = up.endpoints
    pid = before["processes"][name]
    killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: up.endpoints["processes"][name] != pid, timeout_s=READY_S)
    after = up.endpoints
    assert started_at(after["processes"][name]) - killed_at < RESTART_S
    others = {other: it for other, it in before["processes"].items() if other != name}
    assert after == {**before, "processes": {**others, name: after["processes"][name]}}
    assert wait_until(lambda: get(after["api"], "/readyz") == 200, timeout_s=READY_S)


def test_processes_killed_together_are_all_started_again_within_two_seconds(up: Up) -> None:
    """PostgreSQL's recovery keeps nobody waiting who is started after it."""
    before = up.endpoints["processes"]
    killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        return not set(up.endpoints["processes"].values()) & set(before.values())

    assert wait_until(replaced, timeout_s=READY_S)
    late = {name: started_at(pid) - killed_at for name, pid in up.endpoints["processes"].items()}
    assert {name: took_s for name, took_s in late.items() if took_s >= RESTART_S} == {}
    assert wait_until(lambda: get(up.endpoints["api"], "/readyz") == 200, timeout_s=READY_S)


def test_all_ends_in_order_and_the_next_start_keeps_the_password(up: Up) -> None:
    password = up.endpoints["password"]

    assert up.end(signal.SIGINT) == 0
    assert up.log.read_text().endswith("\nstopping…\nstopped\n")
    assert not up.endpoints_file.exists()

    with Up(up.folder) as again:
        again.wait_until_ready()
        assert again.endpoints["password"] == password
        assert password not in again.log.read_text()
        again.end(signal.SIGKILL)  # and nothing is left when it cannot stop anything itself


# --- What is refused ------------------------------------------------------------------
def refused(folder: Path, **environ: str) -> str:
    done = run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=environment(folder, **environ),
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=UP_S,
    )
    assert done.returncode == 1
    assert not (folder / "endpoints.json").exists()
    return done.stdout


def test_a_taken_port_is_one_clear_line() -> None:
    with scratch() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(folder, AGENTSYS_PORT=str(port))
    expected = f"port {port} is taken by another process: stop it, or set AGENTSYS_PORT"
    assert line == f"CommandError: {expected}\n"


def test_a_broken_env_file_is_one_clear_line() -> None:
    with scratch() as folder:
        (folder / ".env").write_text("AGENTSYS_LEASE_S=soon\n")
        line = refused(folder)
    assert line.startswith("agentsys: AGENTSYS_LEASE_S='soon': ")
    assert line.count("\n") == 1


def test_a_broken_module_of_tools_is_named_before_anything_starts() -> None:
    with scratch() as folder:
        line = refused(folder, AGENTSYS_TOOL_MODULES="no_such_tools")
        assert not (folder / "logs").exists()
    assert line == (
        "agentsys: AGENTSYS_TOOL_MODULES: cannot import 'no_such_tools': "
        "ModuleNotFoundError: No module named 'no_such_tools'\n"
    )


@pytest.mark.parametrize("server", ["DATABASE_URL=postgresql://a:b@", "REDIS_URL=redis://"])
def test_a_server_that_is_away_is_one_clear_line(server: str) -> None:
    name, _, url = server.partition("=")
    with scratch() as folder:
        line = refused(folder, **{name: f"{url}127.0.0.1:{free_port()}"})
    assert line.startswith(f"CommandError: {name}: ")
    assert "refused" in line
    assert line.count("\n") == 1
