"""The tools of a workspace: those of the registry, and those that its MCP servers have been approved for."""

import asyncio
import difflib
import json
import math
import time
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from agentsys.core import db
from agentsys.core.errors import ToolChanged, ToolUnknown
from agentsys.core.hidden import without_secrets
from agentsys.tools import registry
from agentsys.tools.context import ToolContext
from agentsys.tools.mcp import door, endpoint, listing, services
from agentsys.tools.mcp.door import Changed, Pin
from agentsys.tools.mcp.matching import Matching
from agentsys.tools.models import McpTool, ToolState
from agentsys.tools.registry import ToolSpec

MAX_DESCRIPTION_CHARS = 4_000


def get(name: str, workspace_id: UUID, *, planned: str = "unsafe") -> ToolSpec:
    """The tool of this name; a query only where the registry has none.

    Args:
        planned: The effect with which its step was planned.

    Raises:
        ToolChanged: its server describes it otherwise than it was approved, or is trusted no more: the step may be
            repeated by ourselves, and the tool may not.
        ToolUnknown: the workspace has none; ``nearest`` in its data lists up to three names like it.
    """
    known = registry.all_tools()
    if name in known:
        return known[name]
    found = _row(name, workspace_id)
    if found is None:
        raise _unknown(name, workspace_id)
    if found.state != ToolState.ACTIVE:
        raise ToolChanged(services.said_of(found), tool=name, state=found.state)
    spec = spec_of(found)
    if planned in ("pure", "idempotent") and not spec.repeatable:
        message = f"{name} was planned as {planned} and is {spec.effect} now; plan it anew."
        raise ToolChanged(message, tool=name, effect=spec.effect)
    return spec


def effect_of(name: str, workspace_id: UUID) -> str:
    """What a repetition of a tool's call does; of one that is not there any more: harm, if it was a server's."""
    known = registry.all_tools()
    if name in known:
        return known[name].effect
    row = _row(name, workspace_id)
    return spec_of(row).effect if row else "unsafe"


def _row(name: str, workspace_id: UUID) -> McpTool | None:
    server, _, tool = str(name).partition(".")
    if not tool or not name.isprintable():
        return None
    rows = McpTool.objects.select_related("server").filter(server__enabled=True)
    return rows.filter(workspace_id=workspace_id, server__name=server, name=tool).first()


def _unknown(name: str, workspace_id: UUID) -> ToolUnknown:
    shown = str(name)[:200]
    nearest = difflib.get_close_matches(shown, [*registry.all_tools(), *own(workspace_id)], n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    return ToolUnknown(f"There is no tool named {shown!r}.{hint}", tool=shown, nearest=nearest)


def own(workspace_id: UUID) -> dict[str, ToolSpec]:
    """The tools of a workspace's own servers that may be called, by name.  One query."""
    rows = McpTool.objects.select_related("server").filter(workspace_id=workspace_id, state=ToolState.ACTIVE)
    specs = (spec_of(row) for row in rows.filter(server__enabled=True).order_by("server__name", "name"))
    return {spec.name: spec for spec in specs}


def names(workspace_id: UUID) -> set[str]:
    """The names of all tools that a definition of an agent may list, those that wait for approval too."""
    rows = McpTool.objects.filter(workspace_id=workspace_id).values_list("server__name", "name")
    return {*registry.all_tools(), *(f"{server}.{name}" for server, name in rows)}


def known(asked: Iterable[str], workspace_id: UUID) -> set[str]:
    """``names``, without a query where the registry knows all that are asked for."""
    builtin = registry.all_tools()
    return set(builtin) if all(name in builtin for name in asked) else names(workspace_id)


def spec_of(row: McpTool) -> ToolSpec:
    """A tool as the engine calls it."""
    said, server = row.described, row.server
    schema = said.get("inputSchema") or {"type": "object"}
    effect = listing.effect_of(said, trusted=server.trusted)
    return ToolSpec(
        name=row.full_name,
        description=str(said.get("description") or said.get("title") or row.name)[:MAX_DESCRIPTION_CHARS],
        effect=effect,
        lane="network",
        timeout_s=server.timeout_s,
        input_schema=schema,
        output_schema=said.get("outputSchema"),
        examples=(),
        approval=False,
        verify=None,
        is_async=True,
        function=partial(_call, row, effect in ("pure", "idempotent")),
        signature=Matching(schema),
        source="mcp",
        server=server.name,
        url=server.url,
        secrets=endpoint.secrets_of(server),
    )


def _call(
    row: McpTool, repeatable: bool, *, arguments: Mapping[str, Any], ctx: ToolContext
) -> Coroutine[Any, Any, Any]:
    reached = endpoint.of(row.server, secret=ctx.secret)
    pin = Pin(row.name, row.digest, repeatable, row.described.get("outputSchema"))
    left_s = row.server.timeout_s if math.isinf(ctx.deadline_at) else max(0.1, ctx.deadline_at - time.monotonic())
    return _told(row, door.call(reached, pin, arguments, left_s=left_s))


async def _told(row: McpTool, call: Coroutine[Any, Any, Any]) -> Any:
    """
    Raises:
        ToolChanged: it is not what was approved any more; that is kept, and nothing was called.
    """
    try:
        return await call
    except Changed as changed:
        message = await asyncio.to_thread(_noted, row, changed.definition)
        raise ToolChanged(message, tool=row.full_name) from None


def _noted(row: McpTool, definition: dict[str, Any] | None) -> str:
    if definition is not None:  # it may repeat what it was sent
        definition = json.loads(without_secrets(json.dumps(definition)))
    with db.lent():
        return services.note_change(row, definition)
