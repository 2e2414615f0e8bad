"""W4: what it costs to wait for thousands of calls in one process."""

from collections.abc import Iterator

import pytest

from tests.benchmarks.stack import stack
from tests.benchmarks.waiting import Calls

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
WAIT_S = 2.0
#: Of the time that they would take if all waited at once and nothing cost anything.
MOST, MOST_MB = 2.5, 0.05


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with stack() as servers:
        made = Calls(servers, seconds=WAIT_S, workers=1, slots=2_000)
        made.wait_for(50)  # warm
        yield made
        made.close()


@pytest.mark.parametrize("count", [500, 2000])
def test_calls_that_wait_hold_no_thread_each(calls, count):
    waited = calls.wait_for(count)
    figures = f"{waited.wall_s:.1f} s, {waited.mb_a_call:.3f} MB and {waited.cpu_ms:.2f} ms of the worker's CPU a call"
    print(f"\nW4 {count} calls of {WAIT_S:g} s: {figures}", end="")
    assert calls.failed() == 0
    assert waited.wall_s <= MOST * WAIT_S
    assert waited.mb_a_call <= MOST_MB
