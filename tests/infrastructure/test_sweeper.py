"""Upkeep goes on past whatever one job or one run meets; only a lost connection makes it start anew."""

import time

import pytest

from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs.store import sweeps
from agentsys.runs.store.claims import claim
from tests.support.rows import expire, sql
from tests.support.worker import statuses

pytestmark = pytest.mark.usefixtures("no_bell")


@pytest.fixture
def taken(submit, settings):
    """A run whose step was claimed by a host that has not been heard of since."""
    settings.LEASE_S = 1.0
    run = submit([{"key": "a", "tool": "test.echo"}])
    claim("compute", owner="another-host:boot:1:1")
    expire(run)
    return run


@pytest.mark.parametrize("fault", [RuntimeError("a defect"), "SELECT 1/0", "SELECT no_such_column"])
def test_a_job_that_fails_at_every_tick_does_not_end_reaping(transactional_db, taken, monkeypatch, fault):
    failed: list[int] = []

    def broken():
        failed.append(1)
        if isinstance(fault, Exception):
            raise fault
        sql(fault)

    monkeypatch.setattr(sweeps, "wake_sleepers", broken)
    monkeypatch.setattr(sweeps, "end_past_deadline", broken)
    sweeper = Sweeper(_contact_since=time.monotonic() - 0.5)

    end = time.monotonic() + 10
    while statuses(taken) != {"a": "ready"} and time.monotonic() < end:
        sweeper.tick()

    assert (statuses(taken), len(failed) >= 2) == ({"a": "ready"}, True)
