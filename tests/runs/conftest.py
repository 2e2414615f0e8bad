"""Every test of the engine ends with the invariants checked."""

from collections.abc import Iterator

import pytest

from agentsys.runs import verify


@pytest.fixture(autouse=True)
def _verified(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    marker = request.node.get_closest_marker("django_db")
    if marker and marker.kwargs.get("transaction") and not request.node.get_closest_marker("violates"):
        request.getfixturevalue("transactional_db")
        assert [f for f in verify.check() if f.violations] == []
