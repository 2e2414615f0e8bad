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
