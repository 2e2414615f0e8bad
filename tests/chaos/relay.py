"""A server on a thread of its own that hands connections on to another one."""

import asyncio
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Relay:
    """Listens on ``host`` and hands on to the server of ``url``, byte by byte; ``url`` is then its own address."""

    def __init__(self, url: str, *, host: str = "127.0.0.1") -> None:
        self._to = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(host), self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        who = self._to.netloc.rpartition("@")[0]
        self.url = self._to._replace(netloc=f"{who}@{host}:{port}" if who else f"{host}:{port}").geturl()

    async def _listen(self, host: str) -> asyncio.Server:
        return await asyncio.start_server(self._serve, host, 0)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(_end_all())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        except OSError:
            writer.close()
            return
        try:
            await self.pass_on((reader, writer), (there, back))
        finally:
            writer.close()
            back.close()

    async def pass_on(self, client: "End", server: "End") -> None:
        """Serve one connection until it ends."""
        await asyncio.gather(pump(client[0], server[1]), pump(server[0], client[1]))


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.1)  # what is closed is closed by the loop
