"""A hundred thousand steps wait for a worker that is not there; everybody else goes on as if they were not."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos import judge
from tests.chaos.plans import single
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import World, form, size, world
from tests.support.reports import figures_of

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(form() == "short", reason="a large backlog takes its time to make: CHAOS=long or full"),
]
BATCH, END_S = 1_000, 120.0
SUBMITTED_S, STARTED_S = 1.0, 2.0
STARTED = """
SELECT extract(epoch FROM s.started_at - r.created_at)::float8 AS waited
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id WHERE r.id = ANY(%s::uuid[]) ORDER BY 1"""


@pytest.fixture(scope="module")
def stack() -> Iterator[World]:
    with world("--workers", "network=0") as made:
        yield made


def test_a_backlog_slows_neither_submissions_nor_other_lanes(stack, request):
    figures, batches = figures_of(request, "backlog"), size(1, 20, 100)
    figures["planned"], took_s, quick = batches * BATCH, [], []
    for _ in range(batches):
        stack.submit([single("far")] * BATCH)
        begun = time.monotonic()
        quick += stack.submit([single("near")])
        took_s.append(time.monotonic() - begun)
    stack.settle(quick, within_s=END_S)

    figures["done"] = stack.value(
        "SELECT count(*) FROM runs_step WHERE status IN ('ready', 'queued') AND lane = 'network'"
    )
    waited_s = [row["waited"] for row in stack.rows(STARTED, quick)]
    submitted_s = judge.share(sorted(took_s), 0.99)
    figures["submitted p99"], figures["started p99"] = submitted_s, judge.share(waited_s, 0.99)
    assert figures["done"] == figures["planned"]
    assert_succeeded(stack, quick)
    judged(stack, quick, figures)
    assert submitted_s < SUBMITTED_S
    assert figures["started p99"] < STARTED_S
