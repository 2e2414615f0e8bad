"""The small parts of a worker: names of processes, elections, the command line, the repaired consumer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kombu import Connection

from agentsys.core import procs
from agentsys.infrastructure.processes import wait_until
from workers import lanes
from workers.celery import app
from workers.consumer import SafeConsumer
from workers.election import Election


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_process_is_dead_here_once_it_has_ended_even_before_it_is_buried(child):
    name = str(procs.of(child.pid))
    assert not procs.is_dead_here(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert procs.is_dead_here(name)
    child.wait()
    assert procs.is_dead_here(name)


def test_the_same_pid_with_another_start_is_another_process():
    own = procs.parse(procs.own_name())
    assert own is not None
    assert own.pid == os.getpid()
    assert not procs.is_dead_here(str(own))
    assert procs.is_dead_here(f"{own.host}/{own.place}/{own.pid}/{own.start - 1}")


def test_a_process_that_proc_hides_is_not_dead_until_the_kernel_says_so(child, monkeypatch, tmp_path):
    name = str(procs.of(child.pid))
    monkeypatch.setattr(procs, "PROC", tmp_path)
    assert not procs.is_dead_here(name)
    child.kill()
    child.wait()
    assert procs.is_dead_here(name)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"place": "00000000-1"}, {"start": 0}])
def test_nothing_is_said_of_processes_of_other_hosts_boots_and_systems(change):
    own = procs.of(os.getpid())
    parts = {"host": own.host, "place": own.place, "pid": 2**22 + 1, "start": 7} | change
    assert not procs.is_dead_here("{host}/{place}/{pid}/{start}".format(**parts))


@pytest.mark.parametrize("name", ["", "worker-a", "a/b/c/d", "a/b/1", "//1/x"])
def test_other_names_are_nobody_we_know(name):
    assert procs.parse(name) is None
    assert not procs.is_dead_here(name)


def test_one_is_elected_until_it_resigns(tmp_path: Path):
    first, second = Election(tmp_path / "locks" / "sweep"), Election(tmp_path / "locks" / "sweep")
    assert first.won()
    assert not second.won()
    assert first.won()
    first.resign()
    assert second.won()
    assert not first.won()
    second.resign()


def test_a_dead_process_is_elected_no_longer(tmp_path: Path):
    holder = (
        "import sys\nfrom pathlib import Path\nfrom workers.election import Election\n"
        "elected = Election(Path(sys.argv[1]))\nprint(elected.won(), flush=True)\nsys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "x")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    own = Election(tmp_path / "x")
    assert other.stdout
    assert other.stdout.readline() == "True\n"
    assert not own.won()
    other.kill()
    other.communicate()
    assert own.won()
    own.resign()


def test_who_is_elected_and_frozen_is_stood_in_for_until_it_goes_on(tmp_path: Path):
    frozen = (
        "import sys\nfrom pathlib import Path\nfrom workers.election import Election\n"
        "elected = Election(Path(sys.argv[1]))\nfor _ in sys.stdin:\n    print(elected.won(), flush=True)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", frozen, str(tmp_path / "x")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout

    def tick() -> str:
        holder.stdin.write("\n")
        holder.stdin.flush()
        return holder.stdout.readline()

    assert tick() == "True\n"
    deputy, third = Election(tmp_path / "x", silent_after_s=0.5), Election(tmp_path / "x", silent_after_s=0.5)
    assert not deputy.won()
    holder.send_signal(signal.SIGSTOP)
    assert wait_until(deputy.won, timeout_s=5)
    assert not third.won()

    holder.send_signal(signal.SIGCONT)
    assert tick() == "True\n"
    assert not deputy.won()
    holder.kill()
    holder.communicate()
    assert third.won()
    assert not deputy.won()
    third.resign()


def test_where_no_file_can_be_written_everybody_is_elected():
    assert Election(Path("/proc/none/x")).won()


def test_closing_a_broken_connection_twice_does_not_end_the_worker(monkeypatch):
    """Celery 5.7.0 closes it again, and kombu then fails an assertion that is no connection error."""
    connection = Connection("memory://")
    monkeypatch.setattr(Connection, "_close", lambda self: (_ for _ in ()).throw(AssertionError("not restored")))
    consumer = SafeConsumer.__new__(SafeConsumer)
    consumer.app, consumer.connection = app, connection

    consumer.on_connection_error_after_connected(ConnectionResetError("gone"))

    assert consumer.connection is None
    monkeypatch.undo()
    connection.close()


def test_a_worker_serves_one_lane_that_there_is():
    for arguments in (["nowhere"], [], ["model", "compute"]):
        ran = subprocess.run([sys.executable, "-m", "workers", *arguments], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 2
        assert "usage: python -m workers" in ran.stderr


def test_a_broken_tool_module_stops_the_start_by_its_name():
    environ = {**os.environ, "AGENTSYS_TOOL_MODULES": "no.such_module"}
    command = [sys.executable, "-m", "workers", "system"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "agentsys: AGENTSYS_TOOL_MODULES: cannot import 'no.such_module'" in ran.stderr


def test_settings_of_celery_are_those_the_engine_relies_on():
    conf = app.conf
    assert conf.task_acks_late is False
    assert conf.broker_connection_max_retries is None
    assert conf.accept_content == ["json"]
    assert conf.result_backend is None
    assert (conf.task_soft_time_limit, conf.task_time_limit) == (None, None)
    assert conf.worker_send_task_events is True
    assert conf.task_publish_retry is False
    assert {lane: plan.task for lane, plan in lanes.LANES.items()} == {
        "model": "plan",
        "network": "execute",
        "compute": "execute",
        "system": "system",
    }


def test_a_workers_name_begins_with_its_nodes(monkeypatch):
    monkeypatch.setattr(procs, "_node", [""])
    plain = procs.parse(procs.own_name())

    procs.join("network-2")

    own = procs.parse(procs.own_name())
    assert procs.own_name().startswith(f"network-2@{plain.host}/")
    assert (own.node, own.host, own.pid, own.start) == ("network-2", plain.host, plain.pid, plain.start)
    assert not procs.is_dead_here(str(own))
    assert procs.is_dead_here(f"network-2@{own.host}/{own.place}/{own.pid}/{own.start - 1}")
