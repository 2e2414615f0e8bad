"""An error as the tables and their readers get it: short, and nothing in it that PostgreSQL refuses.

A tool's error may carry anything; were it written as it is, the write would fail after the effect.
"""

from typing import Any

from agentsys.core.errors import AgentSysError, ToolOutputTooLarge
from agentsys.core.sanitize import clean

MAX_MESSAGE = 2_000
MAX_DATA_BYTES = 32_000


def told(error: AgentSysError) -> dict[str, Any]:
    """``{code, message, data}``; data over 32 KB is left out."""
    return {"code": error.code, "message": clean(str(error.message)[:MAX_MESSAGE]), "data": _data(error)}


def _data(error: AgentSysError) -> Any:
    try:
        return clean(error.data, max_bytes=MAX_DATA_BYTES)
    except ToolOutputTooLarge:
        return {}
