"""A history that fails is told by the few actions that make it fail."""

import itertools

import pytest

from tests.simulation import shrinking
from tests.simulation.world import drawn


def test_what_is_not_needed_is_left_out():
    found = shrinking.least(range(150), lambda left: {3, 77, 149} <= set(left), within_s=10)

    assert found == [3, 77, 149]


def test_a_failure_that_needs_nothing_needs_nothing():
    assert shrinking.least(range(150), lambda left: True, within_s=10) == []


def test_what_comes_back_fails_and_its_time_is_bounded(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(shrinking.time, "monotonic", lambda: float(next(clock)))

    found = shrinking.least(range(150), lambda left: sum(left) > 5_000, within_s=20)

    assert sum(found) > 5_000
    assert next(clock) < 40


@pytest.mark.parametrize("count", [0, 1, 150])
def test_a_seed_draws_the_same_actions_and_a_longer_history_begins_as_a_shorter_one(count):
    assert drawn(7, count) == drawn(7, count) == drawn(7, 200)[:count]
