"""Listing a server's tools, and calling one.  On the process's event loop; needs the ``mcp`` library."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import mcp
import mcp_types as types
from mcp_types.jsonrpc import CONNECTION_CLOSED, REQUEST_TIMEOUT
from pydantic import TypeAdapter, ValidationError

from agentsys.core import schemas
from agentsys.core.errors import (
    AddressDenied,
    AgentSysError,
    OutcomeUnknown,
    ToolFailed,
    ToolOutputTooLarge,
    ToolRateLimited,
    ToolUnavailable,
)
from agentsys.tools.mcp import guarded, keeper, listing, pool
from agentsys.tools.mcp.door import Changed, Listing, Pin
from agentsys.tools.mcp.endpoint import Endpoint
from agentsys.tools.mcp.pool import Session

CONNECT_S = 20.0
LIST_S = 20.0
MAX_PAGES = 100
#: For so long a listing stands, unless the server says that it has changed.
FRESH_S = 1.0
MAX_MESSAGE_CHARS = 2_000
_BROKEN = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, ConnectionError, OSError)
_RESULT: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)


@dataclass(frozen=True, slots=True)
class _Server:
    """Whose errors are told, and whether its call may be made again."""

    name: str
    repeatable: bool = True


async def tools_of(endpoint: Endpoint) -> Listing:
    """What the server lists, over a connection of its own.

    Raises:
        ToolUnavailable, ToolFailed, AddressDenied, ToolOutputTooLarge: it cannot be reached, or lists nothing sensible.
    """
    one, server = Session(endpoint), _Server(endpoint.name)
    try:
        client = await _opened(one, server, CONNECT_S)
        found = await _within(LIST_S, _listed(client, server), server)
        return Listing(tuple(found), client.protocol_version)
    finally:
        await one.abandon()


async def call(endpoint: Endpoint, pin: Pin, arguments: Mapping[str, Any], *, left_s: float) -> Any:
    """Call a tool that the server still describes as it was approved, and return its output.

    Args:
        left_s: Seconds until the step's end; whoever waits cuts the call off then.

    Raises:
        Changed: the server describes the tool otherwise, or not at all; nothing was called.
        ToolUnavailable: the server cannot be reached; ``sent=False`` where nothing can have happened.
        OutcomeUnknown: no answer came to a call that must not be repeated.
        ToolFailed: the tool says so, or its answer is none.
    """
    server = _Server(endpoint.name, pin.repeatable)
    async with pool.session(endpoint) as one:
        client = await _opened(one, server, min(CONNECT_S, left_s / 3))
        await _within(min(LIST_S, left_s / 3), _check(one, client, pin, server), server, one)
        result = await _called(one, client, pin, arguments, server)
    return await asyncio.to_thread(_output, result, pin)


async def _opened(one: Session, server: _Server, within_s: float) -> mcp.Client:
    try:
        async with asyncio.timeout(within_s):
            return await one.client()
    except TimeoutError:
        one.give_up()
        raise ToolUnavailable(f"{server.name} did not answer the handshake in {within_s:.3g} s.", sent=False) from None
    except mcp.MCPError as error:
        one.end()
        raise _unopened(server, error) from error
    except _BROKEN as error:
        one.end()
        raise ToolUnavailable(f"{server.name} cannot be started or reached.", sent=False) from error
    except (ValidationError, RuntimeError, ValueError) as error:
        one.end()
        raise ToolFailed(f"{server.name} does not speak MCP as we know it.", server=server.name) from error


def _unopened(server: _Server, error: mcp.MCPError) -> AgentSysError:
    """Nothing was called yet, so nothing can have happened."""
    told = _error(_Server(server.name), error)
    told.data["sent"] = False
    if isinstance(told, ToolFailed) and error.error.code in (CONNECTION_CLOSED, guarded.STATUS):
        return ToolUnavailable(told.message, **told.data)
    return told


async def _within(within_s: float, work: Any, server: _Server, one: Session | None = None) -> Any:
    """Listing, bounded; what goes wrong in it has called nothing."""
    try:
        async with asyncio.timeout(within_s):
            return await work
    except TimeoutError:
        if one is not None:
            one.give_up()
        raise ToolUnavailable(f"{server.name} did not list its tools in {within_s:.3g} s.", sent=False) from None
    except mcp.MCPError as error:
        if one is not None:
            one.end()
        raise _unopened(server, error) from error
    except _BROKEN as error:
        if one is not None:
            one.end()
        raise ToolUnavailable(f"{server.name} ended the connection.", sent=False) from error
    except ValidationError as error:
        raise ToolFailed(f"{server.name} lists its tools in a form that MCP does not have.") from error


async def _listed(client: mcp.Client, server: _Server) -> list[dict[str, Any]]:
    """Every tool, as MCP writes it."""
    tools: list[dict[str, Any]] = []
    cursor, seen = None, set()
    for _ in range(MAX_PAGES):
        page = await client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None)
        if len(tools) + len(page.tools) > listing.MAX_TOOLS:
            raise ToolFailed(f"{server.name} lists more than {listing.MAX_TOOLS:,} tools.")
        tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        cursor = page.next_cursor
        if not cursor or cursor in seen:
            return tools
        seen.add(cursor)
    raise ToolFailed(f"{server.name} lists its tools on more than {MAX_PAGES} pages.")


async def _check(one: Session, client: mcp.Client, pin: Pin, server: _Server) -> None:
    """
    Raises:
        Changed: the tool is not what was approved.
    """
    now = asyncio.get_running_loop().time()
    if not one.listed_at or now - one.listed_at > FRESH_S:
        one.listed_at = now  # before: a change that is told meanwhile makes it 0
        one.definitions = None
        found = await _listed(client, server)
        names = [tool["name"] for tool in found]
        one.definitions = {
            name: listing.defined(tool) for name, tool in zip(names, found, strict=True) if names.count(name) == 1
        }
    definitions = one.definitions if one.definitions is not None else await _again(client, server)
    definition = definitions.get(pin.tool)
    if definition is None or listing.digest(definition) != pin.digest:
        one.listed_at = 0.0
        raise Changed(definition)


async def _again(client: mcp.Client, server: _Server) -> dict[str, Any]:
    """Another call's listing is under way and might have begun before this call."""
    found = await _listed(client, server)
    return {tool["name"]: listing.defined(tool) for tool in found}


async def _called(one: Session, client: mcp.Client, pin: Pin, arguments: Mapping[str, Any], server: _Server) -> Any:
    params = types.CallToolRequestParams(name=pin.tool, arguments=dict(arguments))
    try:
        # Not the library's call_tool: it checks results with patterns of unbounded time.
        return await client.session.send_request(types.CallToolRequest(params=params), _RESULT)
    except asyncio.CancelledError:
        one.end()  # it may hang; others get a new one
        raise
    except mcp.MCPError as error:
        if error.error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT, types.INVALID_REQUEST, guarded.LOST):
            one.end()
        raise _error(server, error) from error
    except _BROKEN as error:
        one.end()
        raise _lost(server, "The connection broke off.") from error
    except (ValidationError, RuntimeError) as error:
        raise ToolFailed(f"{server.name} answered with what is no result.", server=server.name) from error


def _error(server: _Server, error: mcp.MCPError) -> AgentSysError:
    """What the server, the library or the guard says, in the catalogue's terms."""
    code, data = error.error.code, error.error.data if isinstance(error.error.data, dict) else {}
    said = f"{server.name}: {str(error.error.message)[:MAX_MESSAGE_CHARS]}"
    if code == guarded.DENIED:
        return AddressDenied(said, server=server.name)
    if code == keeper.TOO_LARGE:
        return ToolOutputTooLarge(said, server=server.name)
    if code == guarded.NOT_SENT or (code == types.INVALID_REQUEST and error.error.message == "Session terminated"):
        return ToolUnavailable(said, server=server.name, sent=False)
    if code in (guarded.LOST, CONNECTION_CLOSED, REQUEST_TIMEOUT):
        return _lost(server, said)
    if code == guarded.STATUS:
        return _answered(server, said, data)
    return ToolFailed(said, server=server.name, rpc_code=code)


def _answered(server: _Server, said: str, data: Mapping[str, Any]) -> AgentSysError:
    """An HTTP status without more: 429, and 503 with a time, say that nothing happened; other 5xx do not."""
    wait = {name: data[name] for name in ("retry_after_s",) if name in data}
    status = data.get("status", 500)
    if status == 429:
        return ToolRateLimited(said, status=status, sent=False, **wait)
    if status == 503 and wait:
        return ToolUnavailable(said, status=status, sent=False, **wait)
    return _lost(server, said) if status >= 500 else ToolFailed(said, status=status)


def _lost(server: _Server, said: str) -> AgentSysError:
    return ToolUnavailable(said, server=server.name) if server.repeatable else OutcomeUnknown(said, server=server.name)


def _output(result: Any, pin: Pin) -> Any:
    """What steps and models see: structured content, else the text, else both text and other parts."""
    if not isinstance(result, types.CallToolResult):
        raise ToolFailed(f"{pin.tool} asks for more input, which is not supported here.", tool=pin.tool)
    parts = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if result.is_error:
        raise ToolFailed(f"{pin.tool}: {text[:MAX_MESSAGE_CHARS] or 'It failed without a word.'}", tool=pin.tool)
    if pin.output_schema is not None:
        _check_output(result.structured_content, pin)
    if result.structured_content is not None:
        return result.structured_content
    others = [part for part in parts if part["type"] != "text"]
    return {"text": text, "content": others} if others else text


def _check_output(content: Any, pin: Pin) -> None:
    try:
        found = schemas.mismatches(content, pin.output_schema, most=1)
    except schemas.Unusable as error:
        raise ToolFailed(f"The result of {pin.tool} cannot be checked. {error}", tool=pin.tool) from None
    for mismatch in found:
        where = ".".join(str(part) for part in mismatch.absolute_path)[:200] or "result"
        raise ToolFailed(f"{pin.tool} does not keep to its schema: {where}: {mismatch.message[:300]}", tool=pin.tool)
