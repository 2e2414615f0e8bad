"""The line to PostgreSQL is cut before a statement arrives, after it is done, and in the middle of its answer."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from agentsys.infrastructure.embedded import Postgres, scratch
from agentsys.infrastructure.processes import wait_until
from tests.chaos.plans import chain
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.wire import HOW, Cutter, wire
from tests.chaos.world import World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
END_S = 180.0
AT_ONCE = 30
#: A step's way through the database: every commit of it, and what asks whether one happened.
ON_THE_WAY = ["claim", "complete", "open_gate", "leave_running", "heartbeat", "COMMIT"]


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[World, Cutter, Postgres]]:
    with scratch() as folder:
        server = Postgres(folder, max_connections=200)
        url = server.start()
        try:
            with wire(url) as line, world(DATABASE_URL=line.url, database_url=url) as made:
                yield made, line.cutter, server
        finally:
            server.stop()


@pytest.mark.promise("P2")
def test_runs_end_once_while_commits_are_cut_on_the_wire(stack, request):
    made, cutter, _ = stack
    figures = figures_of(request, "commits cut on the wire")
    cutter.plan(ON_THE_WAY, size(2, 8, 40))
    planned, ids = cutter.left, []
    figures["planned"] = planned
    end = time.monotonic() + size(60, 300, 1200)
    while cutter.left:
        assert time.monotonic() < end, f"{cutter.left} cuts are left: {+cutter.due}; seen: {cutter.seen}"
        ids += made.submit([chain(len(ids) + n, seconds=0.05) for n in range(AT_ONCE)])
        made.settle(ids, within_s=END_S)

    figures["done"] = sum(cutter.done.values())
    figures["calls again"] = sum(count - 1 for count in Counter(key for *_, key in made.calls()).values())
    assert_succeeded(made, ids)
    judged(made, ids, figures)
    assert set(cutter.done) == {(name, how) for name in ON_THE_WAY for how in HOW}
    assert figures["done"] == planned
    assert figures["calls again"] == 0


@pytest.mark.promise("P1")
def test_runs_end_once_while_postgresql_restarts_at_once(stack, request):
    """Its immediate shutdown: no checkpoint, no goodbye, then a recovery."""
    made, cutter, server = stack
    figures = figures_of(request, "PostgreSQL restarted")
    figures["planned"], figures["done"], ids = size(2, 5, 10), 0, []
    cutter.due.clear()
    for _ in range(figures["planned"]):
        ids += made.submit([chain(len(ids) + n) for n in range(10)])
        os.kill(server.pid or 0, signal.SIGQUIT)
        assert wait_until(lambda: not server.alive(), timeout_s=30)
        server.start()
        figures["done"] += 1
        time.sleep(2.0)  # let the next meet work that has begun again
    made.settle(ids, within_s=END_S)

    assert_succeeded(made, ids)
    judged(made, ids, figures)
    assert figures["reaped"] == 0, "an absence of PostgreSQL cost a worker its steps"
