"""Nobody is waited for; what the tools do is written to a file; it ends with the invariants checked."""

from types import SimpleNamespace

import pytest

from agentsys.core import db
from agentsys.runs import verify
from agentsys.runs.store import claims
from tests.failpoints import tools


@pytest.fixture(autouse=True)
def _alone(transactional_db, settings, no_bell, monkeypatch, tmp_path):
    assert tools.LOADED
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that
    witness = tmp_path / "witness"
    witness.touch()
    monkeypatch.setenv("WITNESS", str(witness))
    for module in (db, claims):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=db.time.monotonic, sleep=lambda _s: None))
    yield
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
