"""A scripted model server, with the settings that lead to it."""

from collections.abc import Iterator
from typing import Any

import pytest

from agentsys.llm.scripted import ModelServer, serving


@pytest.fixture
def server(settings: Any) -> Iterator[ModelServer]:
    with serving() as model:
        settings.OPENAI_BASE_URL = model.url
        settings.OPENAI_API_KEY = "sk-test"
        settings.OLLAMA_BASE_URL = model.url
        yield model
