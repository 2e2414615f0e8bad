"""Hundreds of people follow runs: all read every event once, and those who stop reading harm nobody."""

import asyncio
import random
from collections.abc import Iterator

import psutil
import pytest

from tests.chaos import readers as reading
from tests.chaos.plans import chain
from tests.chaos.readers import Reader
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
RUNS, STEPS, END_S = 5, 12, 180.0
MOST_MB_A_READER = 0.5
LAST = "SELECT max(seq) FROM runs_event WHERE run_id = %s::uuid"


@pytest.fixture(scope="module")
def stack() -> Iterator[World]:
    with world() as made:
        yield made


def web_bytes(stack: World) -> int:
    main = psutil.Process(stack.up.endpoints["processes"]["web"])
    return sum(process.memory_info().rss for process in [main, *main.children(recursive=True)])


@pytest.mark.promise("P19")
def test_readers_that_reconnect_and_readers_that_stop_reading(stack, request):
    figures, dice = figures_of(request, "readers"), random.Random(1)
    ids = stack.submit([chain(n, steps=STEPS, seconds=0.4) for n in range(RUNS)])

    def readers(count: int) -> list[Reader]:
        api = stack.up.endpoints["api"]
        return [Reader(api, ids[n % RUNS], stack.authorization, random.Random(dice.random())) for n in range(count)]

    awake, asleep, before = readers(size(100, 500, 500)), readers(size(20, 100, 100)), web_bytes(stack)
    asyncio.run(reading.follow(awake, asleep))

    grown_mb = (web_bytes(stack) - before) / 2**20
    figures |= {"readers": len(awake), "asleep": len(asleep), "opened": sum(one.opened for one in awake)}
    figures["MB a reader"] = round(grown_mb / (len(awake) + len(asleep)), 3)
    stack.settle(ids, within_s=END_S)
    last = {run: stack.value(LAST, run) for run in ids}
    assert [one for one in awake if one.seqs != list(range(1, last[one.run_id] + 1))] == []
    assert figures["opened"] > len(awake)
    assert figures["MB a reader"] < MOST_MB_A_READER
    assert_succeeded(stack, ids)
    judged(stack, ids, figures)
