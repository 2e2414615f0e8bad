"""The stack of those tests whose model is a script."""

from collections.abc import Iterator

import pytest

from tests.support.agent_stack import Stack, running


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    settings = {"AGENTSYS_LEASE_S": "6", "AGENTSYS_HEARTBEAT_S": "2", "AGENTSYS_RETRY_BASE_S": "0.1"}
    with running(**settings) as made:
        yield made
