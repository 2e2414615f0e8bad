"""``python -m tests.benchmarks.slow_server PORT SECONDS``: answers every request after that time, however many wait.

A POST is answered as a model would that speaks chat completions, anything else with a word.
"""

import asyncio
import json
import re
import sys

from agentsys.llm.scripted.protocols import Chat, encoded
from agentsys.llm.scripted.replies import Said


def answer_of(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


ANSWER = answer_of("text/plain", b"ok")
SAID = answer_of("application/json", json.dumps(Chat.whole(Said(("ok",)))).encode())
SPOKEN = answer_of("text/event-stream", b"".join(map(encoded, Chat.events(Said(("ok",))))) + Chat.ending)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return await reader.readexactly(int(length[1])) if length else b""


async def serve(port: int, seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await _body(reader, head)
            await asyncio.sleep(seconds)
            writer.write(ANSWER if not head.startswith(b"POST") else SPOKEN if b'"stream":true' in body else SAID)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
