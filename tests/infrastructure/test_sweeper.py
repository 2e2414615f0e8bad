"""Upkeep goes on past whatever one job or one run meets; only a lost connection makes it start anew."""

import time
from collections.abc import Iterator

import pytest
from django.db import connection

from agentsys.core import procs
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support.rows import expire, sql, value
from tests.support.threads import background
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


@pytest.fixture
def impatient(transactional_db) -> Iterator[None]:
    """New connections wait for a lock as they do after ``manage.py prepare``, only shorter."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    sql(f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET lock_timeout = '200ms'")
    _connect_anew()
    assert value("SHOW lock_timeout") == "200ms"
    yield
    sql(f"ALTER ROLE CURRENT_USER IN DATABASE {name} RESET ALL")
    _connect_anew()


def _connect_anew():
    connection.close()
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close_pool()


def _dead_owner() -> str:
    own = procs.of(1)
    return f"{own.host}/{own.place}/1/{own.start + 1}"


def test_a_transaction_that_hangs_on_one_run_holds_up_no_other_job(impatient, submit, settings):
    settings.LEASE_S = 1.0
    stuck, other = submit([{"key": "a", "tool": "test.echo"}]), submit([{"key": "b", "tool": "test.echo"}])
    claim("compute", owner=_dead_owner())
    claim("compute", owner="another-host:boot:1:1")
    expire(other)
    sweeper = Sweeper(_contact_since=time.monotonic() - 2)

    with background() as start, moves.locked(stuck.pk):
        started = time.monotonic()
        start(sweeper.tick).result()
        assert time.monotonic() - started < 5
        assert start(lambda: statuses(other)).result() == {"b": "ready"}

    assert statuses(stuck) == {"a": "running"}
    sweeper.tick()
    assert statuses(stuck) == {"a": "ready"}


def test_a_transaction_that_hangs_on_one_run_does_not_keep_the_others_of_the_same_job(impatient, submit, settings):
    settings.LEASE_S = 1.0
    stuck, other = submit([{"key": "a", "tool": "test.echo"}]), submit([{"key": "b", "tool": "test.echo"}])
    claim("compute", owner="another-host:boot:1:1"), claim("compute", owner="another-host:boot:1:1")
    expire(stuck), expire(other)
    sql("UPDATE runs_step SET lease_expires_at = lease_expires_at - interval '1 hour' WHERE run_id = %s", stuck.pk)
    sweeper = Sweeper(_contact_since=time.monotonic() - 2)

    with background() as start, moves.locked(stuck.pk):
        start(sweeper.tick).result()
        assert start(lambda: statuses(other)).result() == {"b": "ready"}


def test_a_question_that_nobody_answers_in_time_is_found_by_a_tick(transactional_db, submit, worker):
    run = submit([{"key": "a", "tool": "test.echo", "approval": True, "expires_s": 0.05}])
    worker.work()
    assert statuses(run) == {"a": "waiting"}
    sweeper = Sweeper()

    end = time.monotonic() + 10
    while statuses(run) != {"a": "failed"} and time.monotonic() < end:
        sweeper.tick()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "approval_expired")
    assert run.approvals.get().decision == "expired"
