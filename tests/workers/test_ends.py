"""Workers that are told to end, killed, or hang: steps finish, go back uncharged, or run again at once."""

import os
import signal
import time

import psutil
import pytest
from django.db import connection

from agentsys.infrastructure.models import Worker as WorkerRow
from agentsys.infrastructure.processes import wait_until
from agentsys.runs.models import Step
from tests.workers.conftest import LiveWorker, ended

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.usefixtures("ring")]

LANES = [("compute", "probe.hold"), ("network", "probe.hold_far"), ("network", "probe.hold_away")]


def echo(key: str = "a", **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": 1}, **fields}


def outcomes(run) -> list[str]:
    return list(run.attempts.order_by("number").values_list("outcome", flat=True))


@pytest.mark.promise("P14")
@pytest.mark.parametrize(("lane", "tool"), LANES)
def test_sigterm_lets_a_step_finish_and_starts_none(start, submit, held, lane, tool):
    worker = start(lane, slots=1)
    run = submit([held.step("a", tool), held.step("b", tool, depends_on=["a"])])
    held.wait_for(key="a")

    worker.send(signal.SIGTERM)
    assert wait_until(lambda: WorkerRow.objects.filter(draining=True).exists(), timeout_s=3)
    held.let_go()

    assert worker.wait(timeout_s=4)
    assert (worker.exit_code, WorkerRow.objects.count()) == (0, 0)
    run.refresh_from_db()
    steps = {step.key: (step.status, step.attempt) for step in run.steps.all()}
    assert steps == {"a": ("succeeded", 1), "b": ("ready", 0)}


@pytest.mark.promise("P14")
@pytest.mark.parametrize(("lane", "tool"), LANES)
def test_a_step_that_does_not_end_in_time_goes_back_uncharged(start, submit, held, lane, tool):
    worker = start(lane, slots=1)
    run = submit([held.step("a", tool)])
    held.wait_for()

    begun = time.monotonic()
    worker.send(signal.SIGTERM)

    assert worker.wait(timeout_s=8)  # two seconds of patience here, and a few to end
    assert time.monotonic() - begun >= 2
    step = Step.objects.get(run=run)
    assert (step.status, step.failures, step.crashes, step.attempt) == ("ready", 0, 0, 1)
    assert outcomes(run) == ["released"]


def test_sigterm_ends_a_worker_while_redis_is_away(start, doorbell):
    worker = start("compute", slots=1)
    os.kill(doorbell.pid, signal.SIGKILL)
    assert wait_until(lambda: not doorbell.alive(), timeout_s=5)

    worker.send(signal.SIGTERM)

    assert worker.wait(timeout_s=8)
    assert WorkerRow.objects.count() == 0


@pytest.mark.parametrize("moment", ["its children are there", "one of them works", "it works"])
def test_sigterm_in_the_middle_of_a_start_ends_the_worker_as_soon(transactional_db, doorbell, folder, moment):
    drain_s = 20
    worker = LiveWorker(
        "compute", redis_url=doorbell.url, data_dir=folder, slots=2, env={"AGENTSYS_DRAIN_S": str(drain_s)}
    )

    def works() -> bool:
        return any(child.num_threads() > 3 for child in worker.children())

    reached = {"its children are there": worker.children, "one of them works": works, "it works": worker.registered}
    worker.start()
    assert wait_until(reached[moment], timeout_s=30, every_s=0.005)

    worker.send(signal.SIGTERM)

    assert worker.wait(timeout_s=drain_s / 2), worker.last_words()
    worker.kill()


def test_a_child_that_dies_while_its_worker_starts_is_replaced(transactional_db, doorbell, folder, submit):
    worker = LiveWorker("compute", redis_url=doorbell.url, data_dir=folder, slots=2, env={})
    worker.start()
    try:
        assert wait_until(worker.children, timeout_s=30, every_s=0.002)
        worker.children()[0].kill()

        assert wait_until(worker.registered, timeout_s=30), worker.last_words()
        assert wait_until(lambda: len(worker.children()) == 2, timeout_s=10)
        assert ended(submit([echo()])).status == "succeeded"
        assert worker.alive(), worker.last_words()
    finally:
        worker.kill()


@pytest.mark.promise("P8")
def test_the_step_of_a_killed_child_runs_again_within_two_seconds(start, submit, held):
    worker = start("compute", slots=2)
    run = submit([held.step()])
    (child,) = held.wait_for()

    os.kill(child, signal.SIGKILL)
    begun = time.monotonic()
    held.wait_for(calls=2)
    assert time.monotonic() - begun < 2
    held.let_go()

    assert ended(run).result == {"a": "held"}
    assert outcomes(run) == ["crashed", "succeeded"]
    assert wait_until(lambda: len(worker.children()) == 2, timeout_s=5)


@pytest.mark.promise("P11")
def test_a_step_whose_child_dies_three_times_says_of_what(start, submit, held):
    worker = start("compute", slots=1)
    run = submit([held.step()])
    killed = set()
    for n in range(1, 4):
        (child,) = held.wait_for(calls=n) - killed
        killed.add(child)
        os.kill(child, signal.SIGKILL)

    assert ended(run).reason == "poison"
    crashes = run.error["data"]["crashes"]
    assert [one["ended"] for one in crashes] == ["signal 9 (SIGKILL)"] * 3
    assert len({one["worker"] for one in crashes}) == 3
    assert wait_until(lambda: len(worker.children()) == 1, timeout_s=5)


@pytest.mark.promise("P8")
def test_a_killed_worker_is_swept_by_another_of_its_host(start, submit, held):
    worker, other = start("compute", slots=1), start("network", slots=1)
    run = submit([held.step()])
    (child,) = held.wait_for()

    os.kill(worker.pid, signal.SIGKILL)

    assert wait_until(lambda: not psutil.pid_exists(child), timeout_s=3), "the child outlived its worker"
    assert wait_until(lambda: Step.objects.get(run=run).status == "ready", timeout_s=5)
    assert other.alive()
    start("compute", slots=1)
    held.let_go()
    assert ended(run).status == "succeeded"


def test_a_step_past_its_deadline_fails_and_its_process_is_replaced(start, submit):
    worker = start("compute", slots=1)
    (child,) = {process.pid for process in worker.children()}
    run = submit([{"key": "a", "tool": "probe.hang", "max_attempts": 1}])

    assert ended(run).status == "failed"
    assert run.error["code"] == "step_timeout"
    assert wait_until(lambda: not psutil.pid_exists(child), timeout_s=5)
    assert ended(submit([echo()])).status == "succeeded"
    assert worker.alive()


def test_a_child_in_which_no_thread_can_run_is_ended_after_two_leases(start, submit, held):
    worker = start("compute", slots=1)
    run = submit([held.step(tool="probe.grab")])
    (child,) = held.wait_for()

    assert ended(run, timeout_s=40).result == {"a": "let go"}  # QUICK's lease is 6 s

    assert outcomes(run) == ["crashed", "succeeded"]
    assert wait_until(lambda: not psutil.pid_exists(child), timeout_s=5)
    assert worker.alive()
    assert "Timeout (0:00:12)!" in worker.log_text()


def test_a_threads_worker_whose_every_slot_hangs_ends_itself_to_be_replaced(start, submit):
    worker = start("network", slots=2)
    first = ended(submit([{"key": "a", "tool": "probe.hang_far", "max_attempts": 1}]))
    assert (first.status, first.error["code"]) == ("failed", "step_timeout")
    assert ended(submit([{"key": "a", "tool": "test.far", "arguments": {"value": 1}}])).status == "succeeded"

    ended(submit([{"key": "a", "tool": "probe.hang_far", "max_attempts": 1}]))

    assert worker.wait(timeout_s=15)
    assert worker.exit_code == 1
    start("network", slots=2)
    assert ended(submit([{"key": "a", "tool": "test.far", "arguments": {"value": 1}}])).status == "succeeded"


def test_a_frozen_sweeper_is_stood_in_for_by_another_worker_of_its_host(start, submit, held):
    sweeper, other = start("network", slots=1), start("compute", slots=2)
    os.kill(sweeper.pid, signal.SIGSTOP)
    run = submit([held.step()])
    (child,) = held.wait_for()

    os.kill(child, signal.SIGKILL)

    held.wait_for(calls=2)
    held.let_go()
    assert ended(run).result == {"a": "held"}
    assert outcomes(run) == ["crashed", "succeeded"]
    assert other.alive()


def test_connections_that_break_heal_by_themselves(start, submit):
    worker = start("compute", slots=2)
    far = start("network", slots=2)
    assert ended(submit([echo()])).status == "succeeded"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone()[0] >= 3

    runs = [submit([echo("a"), {"key": "b", "tool": "test.far", "arguments": {"value": "${a}"}}]) for _ in range(4)]
    assert [ended(run).status for run in runs] == ["succeeded"] * 4
    assert worker.alive()
    assert far.alive()
