"""Chains run on a whole stack while its processes are killed and Redis is emptied."""

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.chaos.faults import Faults
from tests.chaos.plans import chain, single
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
END_S = 180.0
SEEDS = [int(n) for n in os.environ.get("CHAOS_SEEDS", "1").split(",")]

#: A pool's child, a worker or the web process, every two seconds.
PROCESSES = ["child", "child", "child", "worker-compute", "worker-network", "worker-model", "worker-system", "web"]
PROCESSES_EVERY_S = 2.0
#: Also the servers, in quick succession.
EVERYTHING = [
    *("worker-compute", "worker-network", "worker-system", "worker-model", "web", "redis", "postgres"),
    *("child", "child", "flush", "worker-compute", "postgres", "redis"),
]
EVERYTHING_EVERY_S = 1.5


@pytest.fixture(scope="module")
def stack() -> Iterator[World]:
    with world() as made:
        yield made


def drawn(dice: random.Random, victims: list[str], count: int) -> list[str]:
    """Every victim once before one comes again."""
    rounds = [dice.sample(victims, len(victims)) for _ in range(-(-count // len(victims)))]
    return [victim for one in rounds for victim in one][:count]


def go(stack: World, faults: Faults, victims: list[str], *, every_s: float, runs: int) -> list[str]:
    """A fault every so often, and as many new runs between two of them; the runs' ids once all have ended."""
    ids: list[str] = []
    for n, victim in enumerate(victims):
        begun = time.monotonic()
        count = runs * (n + 1) // len(victims) - len(ids)
        ids += stack.submit([chain(len(ids) + n) for n in range(count)])
        faults.apply(victim)
        time.sleep(max(0.0, begun + every_s - time.monotonic()))  # let the next meet work that has begun again
    stack.settle(ids, within_s=END_S)
    return ids


@pytest.mark.promise("P8")
@pytest.mark.parametrize("seed", SEEDS)
def test_runs_end_once_while_processes_are_killed(stack, request, seed):
    figures, faults = figures_of(request, f"processes killed, seed {seed}"), Faults(stack, random.Random(seed))
    victims = drawn(random.Random(seed), PROCESSES, size(8, 60, 300))
    figures["planned"] = len(victims)

    ids = go(stack, faults, victims, every_s=PROCESSES_EVERY_S, runs=size(40, 300, 1000))

    figures["done"] = len(faults.done)
    assert len(faults.done) == len(victims)
    assert_succeeded(stack, ids)
    judged(stack, ids, figures, faults=faults)
    assert figures["reaped"] > 0


@pytest.mark.promise("P2")
@pytest.mark.parametrize("seed", SEEDS)
def test_runs_end_once_whatever_is_killed(stack, request, seed):
    figures, faults = figures_of(request, f"anything killed, seed {seed}"), Faults(stack, random.Random(seed))
    victims = drawn(random.Random(seed), EVERYTHING, size(1, 2, 8) * len(EVERYTHING))
    figures["planned"] = len(victims)

    ids = go(stack, faults, victims, every_s=EVERYTHING_EVERY_S, runs=4 * len(victims))

    figures["done"] = len(faults.done)
    assert len(faults.done) == len(victims)
    assert_succeeded(stack, ids)
    judged(stack, ids, figures, faults=faults)
    assert figures["reaped"] > 0


# --- Tools that are a fault themselves ------------------------------------------------
BAD = {"crash": "poison", "eat": "poison", "spin": "tool"}
REASONS = "SELECT id::text, status, reason FROM runs_run WHERE id = ANY(%s::uuid[])"
COUNTS = "SELECT run_id::text AS id, failures, crashes FROM runs_step WHERE run_id = ANY(%s::uuid[])"


@pytest.mark.promise("P11")
def test_tools_that_crash_eat_memory_and_spin_harm_no_other_run(stack, request):
    figures = figures_of(request, "bad tools")
    bad: dict[str, str] = {}
    good: list[str] = []
    for _ in range(size(1, 3, 10)):
        for tool in BAD:
            bad |= dict.fromkeys(stack.submit([single(tool, max_attempts=2)]), tool)
            good += stack.submit([chain(len(good) + n) for n in range(4)])
    stack.settle([*bad, *good], within_s=END_S)

    ended = {row["id"]: (row["status"], row["reason"]) for row in stack.rows(REASONS, list(bad))}
    counts = {row["id"]: (row["failures"], row["crashes"]) for row in stack.rows(COUNTS, list(bad))}
    figures["planned"], figures["done"] = len(bad), len(ended)
    assert ended == {run: ("failed", BAD[tool]) for run, tool in bad.items()}
    # A spinning step may have been claimed along by a process that another tool ended: a crash that is not its own.
    assert {run: counts[run][0] for run, tool in bad.items() if tool == "spin"} == dict.fromkeys(_of(bad, "spin"), 2)
    assert all(counts[run][1] == 3 for run, tool in bad.items() if tool != "spin")
    assert_succeeded(stack, good)
    judged(stack, [*bad, *good], figures)


def _of(bad, tool):
    return [run for run, its in bad.items() if its == tool]
