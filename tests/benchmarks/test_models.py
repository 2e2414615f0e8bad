"""What it costs to ask models: hundreds of calls at once in one process."""

from collections.abc import Iterator

import pytest

from tests.benchmarks.stack import stack
from tests.benchmarks.waiting import Calls

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
WAIT_S, COUNT = 2.0, 500
#: Of the time that they would take if all waited at once and nothing cost anything; and what each may hold.
MOST, MOST_MB = 1.5, 0.3


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with stack() as servers:
        made = Calls(servers, seconds=WAIT_S, workers=1, slots=COUNT, lane="model")
        made.wait_for(50)  # warm
        yield made
        made.close()


def test_hundreds_of_model_calls_wait_side_by_side(calls: Calls) -> None:
    waited = calls.wait_for(COUNT)
    figures = f"{waited.wall_s:.1f} s, {waited.mb_a_call:.3f} MB and {waited.cpu_ms:.2f} ms of the worker's CPU a call"
    print(f"\n{COUNT} model calls of {WAIT_S:g} s: {figures}", end="")
    assert calls.failed() == 0
    assert waited.mb_a_call <= MOST_MB
    assert waited.wall_s <= MOST * WAIT_S
