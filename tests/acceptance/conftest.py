"""The stack of those tests whose model is a script."""

import contextlib
from collections.abc import Iterator

import pytest

from agentsys.infrastructure.embedded import scratch
from agentsys.llm import scripted as model_server
from tests.support.agent_stack import Pages, Stack, serving
from tests.support.stack import Up


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with scratch() as folder, model_server.serving() as model, serving(Pages()) as pages:
        allow = pages.url.removeprefix("http://")
        own = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "k", "AGENTSYS_HTTP_ALLOW": allow}
        settings = {"AGENTSYS_LEASE_S": "6", "AGENTSYS_HEARTBEAT_S": "2", "AGENTSYS_RETRY_BASE_S": "0.1"}
        with Up(folder, AGENTSYS_MODEL="openai-chat:scripted", **own, **settings) as up:
            made = Stack(up.wait_until_ready(), model, pages)
            with contextlib.closing(made.http):
                yield made
