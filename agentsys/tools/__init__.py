"""Tools: typed Python functions that a plan may call.

``from agentsys.tools import tool, ToolContext, ToolFailed, ToolUnavailable`` is all that a
package of one's own tools needs; ``AGENTSYS_TOOL_MODULES`` names the modules to import.
"""

from agentsys.core.errors import ToolFailed, ToolUnavailable
from agentsys.tools.context import FileStore, ToolContext
from agentsys.tools.registry import tool

__all__ = ["FileStore", "ToolContext", "ToolFailed", "ToolUnavailable", "tool"]
