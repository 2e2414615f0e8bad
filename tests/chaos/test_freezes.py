"""Workers that are frozen past their leases, asked to end one after the other, or live a day off."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsys.infrastructure.processes import wait_until
from tests.chaos.faults import Faults
from tests.chaos.plans import chain, single
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import LEASE_S, World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
END_S = 120.0
FROZEN = {"network": ("far", 16), "compute": ("near", 2)}
ATTEMPTS_OF = "SELECT count(*) FROM runs_step WHERE id = ANY(%s) AND attempt > 1"


@pytest.fixture(scope="module")
def stack() -> Iterator[World]:
    with world("--workers", "network=2") as made:
        yield made


@pytest.mark.promise("P3")
def test_what_a_frozen_worker_finishes_too_late_is_fenced(stack, request):
    figures, faults = figures_of(request, "frozen past the lease"), Faults(stack, random.Random(1))
    rounds, ids, frozen = size(1, 5, 20), [], 0
    figures["planned"] = rounds * len(FROZEN)
    for _ in range(rounds):
        for tool, count in FROZEN.values():
            ids += stack.submit([single(tool, seconds=2.0) for _ in range(count)])
        held = [faults.freeze(lane) for lane in FROZEN]
        frozen += len(held)
        steps = [step for _, some in held for step in some]
        assert steps
        again = lambda steps=steps: stack.value(ATTEMPTS_OF, steps) == len(steps)  # noqa: E731
        assert wait_until(again, timeout_s=LEASE_S + 10, every_s=0.1), "the steps of the frozen do not run again"
        for process, _ in held:
            process.send_signal(signal.SIGCONT)
        stack.settle(ids, within_s=END_S)

    assert wait_until(lambda: stack.logged("was fenced") >= frozen, timeout_s=10), "nothing was fenced"
    figures["done"] = frozen
    assert_succeeded(stack, ids)
    judged(stack, ids, figures, faults=faults)
    assert figures["reaped"] >= frozen


@pytest.mark.promise("P14")
def test_workers_that_are_asked_to_end_one_after_the_other_lose_nothing(stack, request):
    figures, faults = figures_of(request, "rolling SIGTERM"), Faults(stack, random.Random(1))
    workers = ["worker-network", "worker-compute", "worker-network-2", "worker-model", "worker-system"] * size(1, 2, 6)
    figures["planned"], ids = len(workers), []
    for n, worker in enumerate(workers):
        ids += stack.submit([chain(len(ids) + m) for m in range(6)])
        if n == 0:  # longer than a worker that ends is waited for
            ids += stack.submit([single("far", seconds=8.0) for _ in range(4)])
        faults.stop(worker)
    stack.settle(ids, within_s=END_S)

    figures["done"] = len(faults.done)
    outcomes = {row["outcome"]: row["n"] for row in stack.rows(OUTCOMES, ids)}
    figures["released"] = outcomes.get("released", 0)
    assert_succeeded(stack, ids)
    judged(stack, ids, figures, faults=faults)
    assert set(outcomes) <= {"succeeded", "released", "sleeping"}
    assert outcomes["released"]
    assert stack.value(CHARGED, ids) == 0


CHARGED = "SELECT count(*) FROM runs_step WHERE failures + crashes > 0 AND run_id = ANY(%s::uuid[])"
OUTCOMES = "SELECT outcome, count(*) AS n FROM runs_attempt WHERE run_id = ANY(%s::uuid[]) GROUP BY 1"


# --- Clocks ---------------------------------------------------------------------------
DAY_S = 86_400
TIMERS = """
SELECT extract(epoch FROM finished_at - started_at)::float8 - (arguments ->> 'seconds')::float8 AS late
  FROM runs_step WHERE kind = 'wait' AND run_id = ANY(%s::uuid[]) ORDER BY 1"""


@pytest.fixture
def clock(tmp_path: Path) -> dict[str, str]:
    """What puts the clocks of a stack's own processes off, not those of its servers."""
    compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("a clock that is off needs a C compiler")
    made = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, Path(__file__).with_name("clock.c")], check=True)
    return {"LD_PRELOAD": str(made), "CLOCK_OFF_S": str(DAY_S)}


@pytest.mark.promise("P9")
def test_clocks_that_are_a_day_off_change_nothing(request, clock):
    """Half of the processes are a day ahead, the others a day behind."""
    figures = figures_of(request, "clocks a day off")
    with world(**clock) as made:
        ids = made.submit([chain(n) for n in range(size(10, 40, 200))])
        Faults(made, random.Random(1)).kill_child()
        made.settle(ids, within_s=END_S)

        assert_succeeded(made, ids)
        off_days = {round((at - time.time()) / DAY_S) for at, *_ in made.calls()}
        late_s = [row["late"] for row in made.rows(TIMERS, ids)]
        figures["timers late"] = f"{late_s[0]:.2f} to {late_s[-1]:.2f} s"
        judged(made, ids, figures)
        assert off_days in ({-1}, {1}, {-1, 1})
        assert late_s[0] >= 0
        assert late_s[int(len(late_s) * 0.99)] < 2.0
        assert figures["reaped"] <= 2  # what the killed child had
