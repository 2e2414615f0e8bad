"""Only PostgreSQL's clock decides: that of a worker may be wrong by a day, either way."""

import ast
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

import agentsys
from agentsys.runs import handlers, submission
from agentsys.runs.store import sweeps
from tests.support import tools
from tests.support.rows import value, wake_now
from tests.support.worker import events, statuses

HOME = Path(agentsys.__file__).parent
DAY_S = 86_400
#: Who may ask this host's clock below the edges: for bounds of a year, which a day does not change.
ALLOWED = {"submission.py": "a deadline at most a year away", "handlers.py": "a wait of at most a year"}


@pytest.fixture(params=[-DAY_S, DAY_S], ids=["a day behind", "a day ahead"])
def wrong_clock(request, monkeypatch):
    """Whatever Python says of the time of day is wrong; nothing can be wrong of time.monotonic()."""
    real, now = time.time, timezone.now

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=request.param)

    monkeypatch.setattr(time, "time", lambda: real() + request.param)
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=request.param))
    for module in (handlers, submission):
        monkeypatch.setattr(module, "datetime", Wrong)


@pytest.mark.promise("P9")
@pytest.mark.usefixtures("wrong_clock")
def test_a_worker_whose_clock_is_a_day_off_changes_nothing(submit, worker):
    tools.calls.clear()
    run = submit(
        [
            {"key": "a", "tool": "test.flaky"},
            {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}, "depends_on": ["a"]},
            {"key": "b", "tool": "test.charge", "depends_on": ["w"]},
        ],
        deadline_s=7200,
    )

    for _ in range(200):
        worker.work(sleepers=True)
        sweeps.reap_expired()
        sweeps.end_past_deadline()
        if statuses(run)["a"] == "succeeded":
            break
    assert statuses(run) == {"a": "succeeded", "w": "sleeping", "b": "blocked"}
    left = value("SELECT extract(epoch FROM available_at - clock_timestamp()) FROM runs_step WHERE key = 'w'")
    assert 3500 < left <= 3600

    wake_now(run)
    worker.finish(run)
    assert (run.status, run.result) == ("succeeded", {"b": "charged"})
    assert [call for call in tools.calls if call[0] == "charge"] == [("charge", f"{run.pk}:b")]
    assert "step.released a" not in events(run)
    assert abs((run.finished_at - datetime.now(UTC)).total_seconds()) < 60


def test_the_engine_asks_no_clock_of_its_host():
    asked = {
        (path.name, node.lineno)
        for path in (*(HOME / "runs").rglob("*.py"), *(HOME / "infrastructure").glob("sweeper*.py"))
        if path.name not in ALLOWED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "timezone.now", "datetime.now")
    }
    assert not asked, "PostgreSQL's clock decides: write clock_timestamp() in the statement"
