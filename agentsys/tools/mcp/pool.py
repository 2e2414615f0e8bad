"""Sessions with MCP servers: one a server and event loop, opened on first use, closed when idle or broken.

A session lives in a task of its own, which alone enters and leaves the library's contexts; callers only talk to it.
Everything here runs on the process's event loop.
"""

import asyncio
import logging
import os
import sys
import weakref
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import mcp
import mcp_types as types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from agentsys.tools.mcp import guarded, keeper
from agentsys.tools.mcp.endpoint import Endpoint

logger = logging.getLogger(__name__)
# What a server sends is in the library's messages, and a flood of it would be one of them.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

IDLE_S = 300.0
SWEEP_S = 30.0
MAX_SESSIONS = 100
CLOSE_S = 10.0
CLIENT = types.Implementation(name="agentsys", version="0.1.0")


#: Of all sessions that are not closed yet.
_tasks: "weakref.WeakSet[asyncio.Task[None]]" = weakref.WeakSet()
#: The loop keeps no task alive by itself.
_closing: set["asyncio.Task[None]"] = set()


class Session:
    """One connection.  ``listed_at`` is when its definitions were last compared, in the loop's seconds; 0: never."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.listed_at = 0.0
        self.definitions: dict[str, Any] | None = None
        self.in_use = 0
        self.used_at = 0.0
        self.broken = False
        self._ended = asyncio.Event()
        self._scope = anyio.CancelScope()
        self._opened: asyncio.Future[mcp.Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(), name=f"mcp-{endpoint.name}")
        _tasks.add(self._task)

    async def client(self) -> mcp.Client:
        """The connection, once it is there.

        Raises:
            Exception: whatever kept it from opening.
        """
        return await asyncio.shield(self._opened)

    @property
    def is_over(self) -> bool:
        return self.broken or self._task.done() or self._ended.is_set()

    def end(self) -> None:
        """Close it, once nobody uses it."""
        self.broken = True
        if not self.in_use:
            self._ended.set()

    def give_up(self) -> None:
        """Close it now, and wait for nothing."""
        closing = asyncio.create_task(self.abandon())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)

    async def abandon(self) -> None:
        """Close it now, whoever uses it."""
        self.broken = True
        self._ended.set()
        if not self._opened.done():
            self._scope.cancel()
        await asyncio.wait([self._task], timeout=CLOSE_S)

    async def _live(self) -> None:
        try:
            with self._scope:
                async with mcp.Client(_transport(self.endpoint), **self._options()) as client:
                    self._opened.set_result(client)
                    await self._ended.wait()
            if not self._opened.done():
                raise ConnectionError("given up")
        except BaseException as error:
            logger.info("MCP session with %s has ended: %s", self.endpoint.name, type(error).__name__)
            if not self._opened.done():
                self._opened.set_exception(_first(error))
                self._opened.exception()  # nobody need have waited
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise

    def _options(self) -> dict[str, Any]:
        asked = {"elicitation_callback": _by_defaults} if self.endpoint.trusted else {}
        return {"client_info": CLIENT, "cache": None, "message_handler": self._heard, **asked}

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.listed_at = 0.0


async def _by_defaults(_context: Any, asked: Any) -> types.ElicitResult:
    """The server's own defaults where they suffice: nobody is there to be asked, and nothing of ours is told."""
    schema = getattr(asked, "requested_schema", None) or {}
    parts = schema.get("properties", {})
    content = {name: part["default"] for name, part in parts.items() if isinstance(part, dict) and "default" in part}
    if not content or set(schema.get("required", ())) - set(content):
        return types.ElicitResult(action="decline")
    return types.ElicitResult(action="accept", content=content)


def _transport(endpoint: Endpoint) -> Any:
    return _spawned(endpoint) if endpoint.command else _reached(endpoint)


@asynccontextmanager
async def _reached(endpoint: Endpoint) -> Any:
    async with (
        guarded.client(endpoint.headers) as http,
        streamable_http_client(endpoint.url, http_client=http, max_sse_event_size=guarded.most_bytes()) as streams,
    ):
        yield streams


@asynccontextmanager
async def _spawned(endpoint: Endpoint) -> Any:
    """In a folder of its own, with next to nothing of our environment; what it writes to stderr is dropped."""
    await asyncio.to_thread(endpoint.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    tie = ["-I", "-S", str(Path(keeper.__file__)), str(os.getpid()), str(guarded.most_bytes())]
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=[*tie, *endpoint.command],
        env={"HOME": str(endpoint.folder), "TMPDIR": str(endpoint.folder)},
        cwd=endpoint.folder,
    )
    with open(os.devnull, "w") as nowhere:
        async with stdio_client(parameters, errlog=nowhere) as streams:
            yield streams


def _first(error: BaseException) -> BaseException:
    """What went wrong, out of the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else ConnectionError(type(error).__name__)


_sessions: dict[tuple[asyncio.AbstractEventLoop, str], Session] = {}
_sweeping: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()


@asynccontextmanager
async def session(endpoint: Endpoint) -> Any:
    """A session that works, as far as anybody knows; whoever finds that it does not calls ``end``."""
    loop = asyncio.get_running_loop()
    _sweep(loop)
    key = (loop, endpoint.key)
    if (found := _sessions.get(key)) is None or found.is_over:
        found = _sessions[key] = Session(endpoint)
    found.in_use += 1
    try:
        yield found
    finally:
        found.in_use -= 1
        found.used_at = loop.time()
        if found.broken:
            found.end()
        _sweep_later(loop)


def _sweep_later(loop: asyncio.AbstractEventLoop) -> None:
    """One timer a loop, however many calls there are."""
    if loop not in _sweeping:
        _sweeping.add(loop)
        loop.call_later(SWEEP_S, _sweep_again, loop)


def _sweep_again(loop: asyncio.AbstractEventLoop) -> None:
    _sweeping.discard(loop)
    _sweep(loop)
    if any(key[0] is loop for key in _sessions):
        _sweep_later(loop)


def _sweep(loop: asyncio.AbstractEventLoop) -> None:
    """Close what nobody has used for long, and the oldest where there are too many."""
    for key, one in list(_sessions.items()):
        if key[0] is not loop and not key[0].is_running():
            del _sessions[key]  # ended with its loop
        elif one.is_over and not one.in_use:
            _end(key, one)
    mine = sorted((item for item in _sessions.items() if item[0][0] is loop), key=_age)
    idle = [(key, one) for key, one in mine if not one.in_use]
    for number, (key, one) in enumerate(idle):
        if loop.time() - one.used_at > IDLE_S or len(mine) - number > MAX_SESSIONS:
            _end(key, one)


async def close() -> None:
    """End every session of the running loop, and wait for their servers to end."""
    loop = asyncio.get_running_loop()
    mine = [(key, one) for key, one in _sessions.items() if key[0] is loop]
    for key, _ in mine:
        del _sessions[key]
    await asyncio.gather(*(one.abandon() for _, one in mine))
    if left := [*_closing, *(one for one in _tasks if not one.done())]:
        await asyncio.wait(left, timeout=CLOSE_S)


def _age(item: tuple[Any, Session]) -> float:
    return item[1].used_at


def _end(key: tuple[asyncio.AbstractEventLoop, str], one: Session) -> None:
    with suppress(KeyError):
        del _sessions[key]
    one.end()
