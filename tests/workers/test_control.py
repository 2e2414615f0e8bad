"""Run control with real workers: what is held is held, and killed processes change nothing about it."""

import signal

import pytest

from agentsys.infrastructure.processes import wait_until
from agentsys.runs import control
from tests.workers.conftest import ended

pytestmark = pytest.mark.processes


def has(run, **steps):
    """Waits until each named step has its status."""
    return wait_until(
        lambda: dict(run.steps.filter(key__in=steps).values_list("key", "status")) == steps, timeout_s=15, every_s=0.05
    )


def test_a_chain_paused_in_the_middle_of_a_step_goes_on_after_the_resume(start, held, submit, ring):
    start("compute")
    steps = [
        held.step("a"),
        *({"key": f"s{n}", "tool": "test.echo", "depends_on": [f"s{n - 1}" if n else "a"]} for n in range(5)),
    ]
    run = submit(steps)
    held.wait_for()

    control.pause(run)
    held.let_go()
    assert has(run, a="succeeded", s0="queued", s1="blocked")
    run.refresh_from_db()
    assert run.status == "paused"
    other = submit([{"key": "a", "tool": "test.echo"}])
    assert ended(other).status == "succeeded"  # the lane has had its turn, and left the paused run alone
    assert has(run, s0="queued")

    control.resume(run)
    assert ended(run).status == "succeeded"
    assert run.attempts.count() == 6


def test_a_worker_killed_in_a_paused_run_costs_a_try_and_not_the_pause(start, held, submit, ring):
    worker = start("compute")
    run = submit([held.step("a")])
    first = held.wait_for()
    control.pause(run)

    worker.send_group(signal.SIGKILL)
    start("compute")
    assert has(run, a="queued")
    held.let_go()

    control.resume(run)
    assert ended(run).status == "succeeded"
    assert len(held.pids()) == 2
    assert held.pids() > first
