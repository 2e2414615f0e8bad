"""More workers of a lane whose steps wait: as much more work is done, each does its part, and a new one at once."""

import time
from collections.abc import Iterator

import pytest

from tests.benchmarks.stack import START_S, stack, wait_until
from tests.benchmarks.waiting import Calls

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
WAIT_S, SLOTS, ROUNDS = 1.0, 16, 5
WORKERS = (1, 2, 4, 8)
#: Of what so many workers would do if each did as much as one alone; and the most that one does of the least.
LINEAR, SPREAD = 0.9, 1.5
JOINED_S = 5.0
SHARES = """
SELECT worker, count(*) FROM runs_attempt
 WHERE ended_at > clock_timestamp() - make_interval(secs => %s) GROUP BY 1"""


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with stack() as servers:
        made = Calls(servers, seconds=WAIT_S, workers=1, slots=SLOTS)
        made.wait_for(SLOTS)  # warm
        yield made
        made.close()


def grow(calls: Calls, workers: int) -> None:
    calls.workers += [calls.add_worker() for _ in range(workers - len(calls.workers))]
    wait_until(calls.ready, timeout_s=START_S, pause_s=0.2)


def shares(calls: Calls, seconds: float) -> list[int]:
    return sorted(row[1] for row in calls.db.execute(SHARES, [seconds]).fetchall())


def test_throughput_grows_with_the_workers_and_each_does_its_part(calls):
    alone = 0.0
    for workers in WORKERS:
        grow(calls, workers)
        count = workers * SLOTS * ROUNDS
        waited = calls.wait_for(count)
        rate, done = count / waited.wall_s, shares(calls, waited.wall_s)
        alone = alone or rate
        print(f"\n{workers} workers: {rate:6.1f} steps/s, {rate / alone / workers:.2f} of linear, {done}", end="")
        assert rate >= LINEAR * workers * alone
        assert len(done) == workers
        assert done[-1] <= SPREAD * done[0]


def test_a_worker_that_joins_under_load_has_its_share_within_seconds(calls):
    before = len(calls.workers)
    calls.submit(before * SLOTS * 30)
    joining = calls.add_worker()
    calls.workers.append(joining)
    wait_until(calls.ready, timeout_s=START_S, pause_s=0.1)

    time.sleep(JOINED_S)  # the time that it has
    done = shares(calls, 3.0)
    print(f"\nshares after {JOINED_S:g} s: {done}", end="")
    assert len(done) == before + 1
    assert done[-1] <= SPREAD * done[0]
