"""Calls to built-in tools as the engine makes them."""

from collections.abc import Callable
from typing import Any

import pytest

from agentsys.tools import registry, runner
from agentsys.tools.testing import MemoryFiles, context


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def call(files: MemoryFiles) -> Callable[..., Any]:
    """Run a tool by its name; ``files`` are the run's."""

    def run(tool: str, /, **arguments: Any) -> Any:
        return runner.run(registry.get(tool), arguments, context(files=files))

    return run
