"""Use cases of MCP servers.  The one place that writes them and their tools."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from agentsys.accounts import credentials
from agentsys.accounts.credential_terms import may_go_to
from agentsys.accounts.credentials import Caller
from agentsys.accounts.models import User
from agentsys.core import http
from agentsys.core.errors import (
    AgentSysError,
    ApprovalChanged,
    Forbidden,
    InvalidInput,
    InvalidTransition,
    NotFound,
)
from agentsys.core.sanitize import clean
from agentsys.tools.mcp import definition, door, endpoint, listing
from agentsys.tools.mcp.definition import ADDRESS, DEFAULTS, FIELDS
from agentsys.tools.mcp.door import Listing
from agentsys.tools.mcp.listing import Listed
from agentsys.tools.models import McpServer, McpTool, ToolState

MAX_SERVERS = 100


def define(workspace_id: UUID, given: Mapping[str, Any], *, user: User, may_trust: bool = False) -> McpServer:
    """A new server; nothing is asked of it before it is refreshed.

    Args:
        given: ``name``, ``transport`` and what else of ``definition.FIELDS`` is not as in its DEFAULTS.
        may_trust: Whether the person may say that its word on effects is believed.

    Raises:
        InvalidInput: with ``errors``; the name may be taken.
        Forbidden: ``trusted`` is not theirs to say.
    """
    values = {"name": None, "transport": None, **DEFAULTS, **given}
    _check(values)
    _may_trust(values["trusted"], may_trust)
    if McpServer.objects.filter(workspace_id=workspace_id).count() >= MAX_SERVERS:
        raise InvalidInput(f"A workspace has at most {MAX_SERVERS} servers.")
    try:
        with transaction.atomic():
            return McpServer.objects.create(workspace_id=workspace_id, **values, **_trusted_by(values, user))
    except IntegrityError as error:
        raise _taken(error, values["name"]) from None


@transaction.atomic
def change(server: McpServer, given: Mapping[str, Any], *, user: User, may_trust: bool = False) -> McpServer:
    """Change what is given of ``definition.FIELDS``.  Another address is trusted only if that is said anew.

    Raises: as :func:`define`.
    """
    locked = _locked(server)
    values = {name: getattr(locked, name) for name in FIELDS}
    moved = any(given.get(name, values[name]) != values[name] for name in ADDRESS)
    _may_trust(given.get("trusted", False) and (moved or not locked.trusted), may_trust)
    values |= ({"trusted": False} if moved else {}) | dict(given)
    _check(values)
    for name, value in {**values, **_trusted_by(values, user)}.items():
        setattr(locked, name, value)
    try:
        with transaction.atomic():
            locked.save(update_fields=[*FIELDS, "trusted_by"])
    except IntegrityError as error:
        raise _taken(error, values["name"]) from None
    return locked


def delete(server: McpServer) -> None:
    """Forget a server and its tools; what calls them from now on is told that there is no such tool."""
    McpServer.objects.filter(pk=server.pk).delete()


def refresh(server: McpServer) -> McpServer:
    """Ask a server for its tools: new ones are pinned as they are, changed ones wait for somebody's approval.

    No transaction is open while it is asked, for up to a minute.

    Raises:
        ToolUnavailable, ToolFailed, AddressDenied, ToolOutputTooLarge: it cannot be asked, or lists nothing sensible;
            kept as the server's ``error``, its tools stay as they are.
        CredentialUnavailable: a secret for its headers is missing, or may not go there; kept the same way.
    """
    try:
        found = _listed(server)
    except AgentSysError as error:
        McpServer.objects.filter(pk=server.pk).update(error=error.message[:1_000], refreshed_at=Now())
        raise
    return _kept(server, found)


def _listed(server: McpServer) -> Listing:
    """What the server lists, without the secrets that it was sent."""
    names = endpoint.secrets_of(server)
    if not names:
        return door.tools_of(endpoint.of(server, secret=str))
    granted = credentials.grant(names, Caller(server.workspace_id, server.name, None, server.name))
    for name, hosts in granted.hosts.items():
        if not may_go_to(hosts, http.origin(server.url)):
            raise granted.refuse(name, f"may not go to {server.url[:200]}.")
    try:
        found = door.tools_of(endpoint.of(server, secret=granted.secrets.__getitem__))
    except AgentSysError as error:
        granted.hidden.error(error, data=clean(error.data))
        raise
    return replace(found, tools=tuple(granted.hidden.value(found.tools)))


@transaction.atomic
def _kept(server: McpServer, found: Listing) -> McpServer:
    locked = _locked(server)
    if any(getattr(locked, name) != getattr(server, name) for name in ADDRESS):
        raise InvalidTransition("The server has been changed meanwhile; refresh it again.")
    usable, refused = listing.judged(locked.name, found.tools)
    _keep_tools(locked, usable)
    locked.refused = [asdict(one) for one in refused]
    locked.error, locked.protocol_version = "", found.protocol_version[:20]
    locked.save(update_fields=["refused", "error", "protocol_version"])
    McpServer.objects.filter(pk=locked.pk).update(refreshed_at=Now())
    locked.refresh_from_db()
    return locked


def _keep_tools(server: McpServer, listed: Sequence[Listed]) -> None:
    """Under the server's lock."""
    known = {tool.name: tool for tool in McpTool.objects.filter(server=server)}
    new = [one for one in listed if one.name not in known]
    McpTool.objects.bulk_create(
        McpTool(server=server, workspace_id=server.workspace_id, name=n.name, definition=n.definition, digest=n.digest)
        for n in new
    )
    by_name = {one.name: one for one in listed}
    for name, tool in known.items():
        _compare(tool, by_name.get(name))


def _compare(tool: McpTool, listed: Listed | None) -> None:
    """Keep what a server says now of a tool that it was approved with."""
    if listed is None:
        now: dict[str, Any] = {"state": ToolState.GONE, "proposed": None, "proposed_digest": ""}
    elif listed.digest == tool.digest:
        now = {"state": ToolState.ACTIVE, "proposed": None, "proposed_digest": ""}
    else:
        now = {"state": ToolState.CHANGED, "proposed": listed.definition, "proposed_digest": listed.digest}
    if any(getattr(tool, name) != value for name, value in now.items()):
        McpTool.objects.filter(pk=tool.pk, digest=tool.digest).update(**now)


def note_change(tool: McpTool, found: Mapping[str, Any] | None) -> str:
    """Keep that a server describes a tool otherwise than it was approved, as was seen right before a call.

    Returns:
        What to tell whoever wanted to call it.
    """
    usable = listing.judged(tool.server.name, [found])[0] if found is not None else []
    _compare(tool, usable[0] if usable else None)
    current = McpTool.objects.select_related("server").filter(pk=tool.pk).first()
    return said_of(current or tool)


def said_of(tool: McpTool) -> str:
    """Why a tool cannot be called, and what to do."""
    if tool.state == ToolState.GONE:
        return f"{tool.full_name} is not listed by its server any more, or in a form that cannot be used."
    if tool.state == ToolState.CHANGED:
        return f"{tool.full_name} is described otherwise than it was approved; somebody must look at the change."
    return f"{tool.full_name} was described otherwise than it was approved; its approval has changed meanwhile."


def approve(tool: McpTool, digest: str, *, user: User) -> McpTool:
    """Let a tool be called as its server describes it now; ``digest`` is that of what the person has seen.

    Raises:
        InvalidTransition: nothing waits for approval.
        ApprovalChanged: the server has changed it again meanwhile.
    """
    waiting = McpTool.objects.filter(pk=tool.pk, state=ToolState.CHANGED)
    done = waiting.filter(proposed_digest=digest).update(
        definition=F("proposed"),
        digest=F("proposed_digest"),
        state=ToolState.ACTIVE,
        proposed=None,
        proposed_digest="",
        approved_by=user,
        approved_at=Now(),
    )
    current = McpTool.objects.select_related("server").filter(pk=tool.pk).first()
    if current is None:
        raise NotFound
    if not done and current.state == ToolState.CHANGED:
        raise ApprovalChanged(digest=current.proposed_digest)
    if not done:
        raise InvalidTransition(f"{current.full_name} has no change to approve.", state=current.state)
    return current


def difference(tool: McpTool) -> str:
    """The approved definition and what the server says now, as a unified diff; "" where nothing has changed."""
    if tool.proposed is None:
        return ""
    old, new = (
        json.dumps(one, indent=2, sort_keys=True, ensure_ascii=False) for one in (tool.definition, tool.proposed)
    )
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "approved", "proposed", lineterm="")
    return "\n".join(lines)


def _check(values: Mapping[str, Any]) -> None:
    if faults := list(definition.faults(values)):
        raise InvalidInput("The server is not valid; see errors.", errors=faults)


def _may_trust(wanted: Any, may: bool) -> None:
    if wanted and not may:
        raise Forbidden("Only an admin may say that a server's word on its tools' effects is believed.")


def _trusted_by(values: Mapping[str, Any], user: User) -> dict[str, Any]:
    return {"trusted_by": user if values["trusted"] else None}


def _taken(error: IntegrityError, name: str) -> Exception:
    if "mcpserver_name_unique" not in str(error):
        return error
    message = f"There is a server {name!r} already."
    return InvalidInput(message, errors=[{"path": "name", "code": "taken", "message": message}])


def _locked(server: McpServer) -> McpServer:
    found = McpServer.objects.select_for_update(no_key=True).filter(pk=server.pk).first()
    if found is None:
        raise NotFound
    return found
