"""One workspace has tens of thousands of steps queued; five others go on beside it as if it had few.

What a step waits is counted in places, the steps of its lane that start before it, so that no machine is too slow.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tests.chaos import judge
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
END_S = 1800.0
LANE, SLOTS, LIGHT = "compute", 100, 5
BATCH_STEPS, STEPS_A_RUN, CHAIN = 10_000, 10, 3
#: A step's time: what the heavy one has queued lasts for longer than the light ones need.
PACE_S = 0.02
#: By the order in which they came, a light step would wait for the whole backlog.
MOST_PLACES = 100
#: The most that a workspace does of the least, while all of them have work.
SPREAD = 1.5

STARTS = """
SELECT r.id::text AS run, r.workspace_id::text AS workspace, s.key, extract(epoch FROM s.started_at)::float8 AS at,
       extract(epoch FROM r.created_at)::float8 AS submitted, extract(epoch FROM s.finished_at)::float8 AS done
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE s.lane = %s AND s.started_at IS NOT NULL ORDER BY s.started_at, s.id"""
QUEUED = "SELECT count(*) FROM runs_step WHERE lane = %s AND status = 'queued'"
#: Ready and running of the workspace that has most of them, in one snapshot.
MOST_HELD = """
SELECT coalesce(max(n), 0) FROM (
       SELECT count(*) AS n FROM runs_step
        WHERE lane = %s AND status IN ('ready', 'running') GROUP BY workspace_id) held"""


@dataclass
class Tenants:
    heavy: World
    light: list[World]
    heavy_runs: list[str] = field(default_factory=list)
    light_runs: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[str]:
        return self.heavy_runs + self.light_runs

    def fill(self, steps: int) -> None:
        """So many steps of the heavy one."""
        while (left := steps - STEPS_A_RUN * len(self.heavy_runs)) > 0:
            self.heavy_runs += self.heavy.submit([fan(STEPS_A_RUN)] * (min(left, BATCH_STEPS) // STEPS_A_RUN))

    def ask(self, plans: Sequence[dict[str, Any]]) -> list[str]:
        """These plans by each of the light ones; all have ended."""
        found = [run for tenant in self.light for run in tenant.submit(plans)]
        self.light_runs += found
        self.heavy.settle(found, within_s=END_S)
        return found

    def starts(self) -> list[dict[str, Any]]:
        return self.heavy.rows(STARTS, LANE)


def fan(steps: int) -> dict[str, Any]:
    return {"steps": [_near(n) for n in range(steps)]}


def chain() -> dict[str, Any]:
    return {"steps": [{**_near(n), "depends_on": [f"s{n - 1}"] if n else []} for n in range(CHAIN)]}


def _near(n: int) -> dict[str, Any]:
    return {"key": f"s{n}", "tool": "chaos.near", "arguments": {"value": n, "seconds": PACE_S}}


@pytest.fixture(scope="module")
def tenants() -> Iterator[Tenants]:
    with world(AGENTSYS_LANE_SLOTS=str(SLOTS)) as made:
        light = made.beside(*(f"light{n}" for n in range(LIGHT)))
        yield Tenants(made, light)
        for one in light:
            one.close()


@pytest.mark.promise("P13")
def test_light_workspaces_go_on_beside_one_that_has_a_backlog(tenants, request):
    figures, steps = figures_of(request, "a backlog beside five light ones"), size(500, 5_000, 50_000)
    tenants.fill(steps)
    figures["planned"], most_held = steps, []
    for _ in range(size(4, 20, 60)):
        tenants.ask([chain()])
        most_held.append(tenants.heavy.value(MOST_HELD, LANE))
    asked = set(tenants.light_runs)
    burst = tenants.ask([fan(STEPS_A_RUN)] * size(5, 10, 30))
    figures["queued at the end"] = tenants.heavy.value(QUEUED, LANE)
    starts = tenants.starts()

    waited = places(starts, asked)
    shares = shares_of(starts, set(burst))
    figures["places p50"], figures["places most"] = judge.share(waited, 0.5), waited[-1]
    figures["shares"] = " ".join(map(str, shares))
    figures["most held"] = max(most_held)
    tenants.heavy.settle(tenants.heavy_runs, within_s=END_S)
    figures["done"] = sum(1 for row in tenants.starts() if row["run"] in set(tenants.heavy_runs))
    assert_succeeded(tenants.heavy, tenants.runs)
    judged(tenants.heavy, tenants.runs, figures)
    assert figures["done"] == steps
    assert figures["queued at the end"] > 0, "the backlog was gone before the light ones had ended"
    assert figures["most held"] == SLOTS
    assert figures["places most"] <= MOST_PLACES
    assert len(shares) == LIGHT + 1
    assert shares[-1] <= SPREAD * shares[0]


def places(starts: Sequence[dict[str, Any]], runs: set[str]) -> list[int]:
    """How many steps started while one of these runs' could have, by step; sorted."""
    times, chains = (
        [row["at"] for row in starts],
        sorted((row for row in starts if row["run"] in runs), key=lambda row: (row["run"], row["key"])),
    )
    found = [
        bisect_left(times, row["at"]) - bisect_left(times, row["submitted"]) for row in chains if row["key"] == "s0"
    ]
    found += [
        bisect_left(times, row["at"]) - bisect_left(times, before["done"])
        for before, row in pairwise(chains) if before["run"] == row["run"]
    ]  # fmt: skip
    return sorted(found)


def shares_of(starts: Sequence[dict[str, Any]], runs: set[str]) -> list[int]:
    """How many steps of each workspace started while all of them had some to start: from the first of these runs' steps
    until one of their workspaces has none left."""
    of_burst = [n for n, row in enumerate(starts) if row["run"] in runs]
    last = {starts[n]["workspace"]: n for n in of_burst}
    return sorted(Counter(row["workspace"] for row in starts[of_burst[0] : min(last.values()) + 1]).values())
