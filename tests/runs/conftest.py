"""Every test of the engine ends with the invariants checked."""

from collections.abc import Iterator

import pytest

from agentsys.runs import verify


@pytest.fixture(autouse=True)
def _verified(transactional_db: None, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.node.get_closest_marker("violates"):
        assert [f for f in verify.check() if f.violations] == []
