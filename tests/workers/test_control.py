"""Run control with real workers: what is held is held, and killed processes change nothing about it."""

import signal

import pytest

from agentsys.infrastructure.processes import wait_until
from agentsys.runs import control, services
from agentsys.runs.models import Run
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


def test_a_child_run_goes_through_real_workers_and_outlives_its_parents_worker(start, held, submit, ring):
    workers = {lane: start(lane) for lane in ("compute", "system")}
    child = {"plan": {"steps": [held.step("a"), {"key": "b", "tool": "test.echo", "arguments": {"value": "${a}"}}]}}
    run = submit(
        [{"key": "d", "kind": "delegate", "arguments": child}, {"key": "z", "tool": "test.echo", "depends_on": ["d"]}]
    )
    held.wait_for()
    assert has(run, d="waiting")

    for worker in workers.values():  # nothing of the parent is in any process
        worker.send_group(signal.SIGKILL)
    start("compute")
    start("system")
    held.let_go()

    assert ended(run, timeout_s=30).status == "succeeded"
    assert Run.objects.get(parent_run=run).result == {"b": "held"}
    assert run.steps.get(key="d").output == {"b": "held"}


def test_a_failed_child_and_a_cancelled_parent_are_found_by_the_sweepers_of_real_workers(start, held, submit, ring):
    start("compute")
    start("system")
    failing = {"plan": {"steps": [{"key": "x", "tool": "test.fail"}]}}
    run = submit([{"key": "d", "kind": "delegate", "arguments": failing}])
    assert ended(run).error["code"] == "child_failed"

    run = submit([{"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [held.step("a")]}}}])
    held.wait_for()
    services.cancel(run)
    assert wait_until(Run.objects.filter(parent_run=run, status="cancelling").exists, timeout_s=10)
    held.let_go()
    assert ended(Run.objects.get(parent_run=run)).reason == "parent"
