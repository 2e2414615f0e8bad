"""Nobody is waited for; what the tools do is written to a file; it ends with the invariants checked."""

from types import SimpleNamespace

import pytest

from agentsys.core import db
from agentsys.runs import verify
from agentsys.runs.store import claims
from tests.failpoints import tools

#: How an error ends that the sweeper logs where it puts right what is wrong.
REPAIRED = ("miscounted; put right", "had no live step; repaired")


@pytest.fixture(autouse=True)
def _alone(transactional_db, settings, no_bell, priced, monkeypatch, tmp_path, caplog):
    assert tools.LOADED
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that
    witness = tmp_path / "witness"
    witness.touch()
    monkeypatch.setenv("WITNESS", str(witness))
    for module in (db, claims):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=db.time.monotonic, sleep=lambda _s: None))
    yield
    # What is put right later has been wrong at some commit, whatever verify finds in the end.
    assert [line for line in caplog.messages if line.endswith(REPAIRED)] == []
    assert [finding for finding in verify.check() if finding.violations] == []


def pytest_terminal_summary(terminalreporter):
    """How many points each fault was played at, by shape."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    noted = [
        note for report in reports for name, note in getattr(report, "user_properties", ()) if name == "failpoints"
    ]
    if not noted:
        return
    found = {(shape, fault): points for shape, fault, points in noted}
    names = sorted({fault for _, fault in found})
    terminalreporter.section(f"failpoints: {sum(found.values())} faults played")
    for shape in dict.fromkeys(shape for shape, _ in sorted(found)):
        counts = "  ".join(f"{fault} {found[shape, fault]}" for fault in names if (shape, fault) in found)
        terminalreporter.write_line(f"{shape:32} {counts}")
