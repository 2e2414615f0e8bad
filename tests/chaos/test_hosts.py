"""Two hosts, each with a network of its own; one is cut off past its leases and comes back."""

import os
import time
from collections.abc import Iterator

import pytest

from agentsys.infrastructure.processes import wait_until
from tests.chaos import hosts as making
from tests.chaos.faults import Fault, Faults
from tests.chaos.hosts import Host
from tests.chaos.plans import single
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import LEASE_S, SETTINGS, World, size, world
from tests.support.reports import figures_of

WHY_NOT = making.why_not()
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
SLOTS, END_S, START_S = 4, 120.0, 60.0
WORKING = """
SELECT count(*) FROM runs_step
 WHERE lease_expires_at IS NOT NULL AND lane = 'network' AND position(%s || '/' IN lease_owner) > 0"""
HELD = """
SELECT array_agg(id) AS steps, array_agg(DISTINCT split_part(lease_owner, '/', 3)::int) AS pids FROM runs_step
 WHERE lease_expires_at IS NOT NULL AND position(%s || '/' IN lease_owner) > 0"""
AGAIN = "SELECT count(*) FROM runs_step WHERE id = ANY(%s) AND attempt > 1"
DONE_BY = """
SELECT count(*) FROM runs_attempt
 WHERE outcome = 'succeeded' AND run_id = ANY(%s::uuid[]) AND position(%s || '/' IN worker) > 0"""


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[World, list[Host]]]:
    """The stack serves all lanes but the network's, which two hosts do."""
    with world("--workers", "network=0") as made:
        where = {"database_url": made.database_url, "redis_url": made.services["redis_url"]}
        secret = made.services["secret_key"]
        env = {**os.environ, **SETTINGS, "WITNESS": str(made.witness), "SECRET_KEY": secret}
        with making.hosts(2, made.folder, **where, env=env) as both:
            for host in both:
                host.start("network", slots=SLOTS)
            yield made, both


@pytest.mark.promise("P8")
def test_what_a_host_that_is_cut_off_had_runs_on_the_other_and_its_late_results_are_fenced(stack, request):
    made, both = stack
    figures, faults = figures_of(request, "a host cut off"), Faults(made, None)  # type: ignore[arg-type]
    figures["planned"], ids = size(1, 3, 10), []
    for n in range(figures["planned"]):
        lost, other = both[n % 2], both[(n + 1) % 2]
        ids += made.submit([single("far", seconds=2.0) for _ in range(4 * SLOTS)])
        at_work = lambda: all(made.value(WORKING, host.name) for host in both)  # noqa: E731
        assert wait_until(at_work, timeout_s=START_S), [host.workers[0].last_words()[-5:] for host in both]
        lost.pull()
        at = time.time()
        held = made.rows(HELD, lost.name)[0]
        faults.done.append(Fault("host", "network", at, frozenset(held["pids"])))
        again = lambda steps=held["steps"]: made.value(AGAIN, steps) == len(steps)  # noqa: E731
        assert wait_until(again, timeout_s=LEASE_S + 10, every_s=0.1), f"{other.name} does not take over"
        lost.plug()
        made.settle(ids, within_s=END_S)

    fenced = lambda: sum(host.logged("was fenced") for host in both) >= len(faults.done)  # noqa: E731
    assert wait_until(fenced, timeout_s=30), "nothing was fenced"
    figures["done"] = len(faults.done)
    assert_succeeded(made, ids)
    judged(made, ids, figures, faults=faults)
    figures["fenced"] = sum(host.logged("was fenced") for host in both)


def test_a_host_that_was_cut_off_works_again(stack, request):
    made, both = stack
    figures = figures_of(request, "both hosts afterwards")
    ids = made.submit([single("far", seconds=0.5) for _ in range(10 * SLOTS)])
    made.settle(ids, within_s=END_S)

    shares = [made.value(DONE_BY, ids, host.name) for host in both]
    figures["shares"] = " ".join(map(str, shares))
    assert_succeeded(made, ids)
    judged(made, ids, figures)
    assert min(shares) > 0
