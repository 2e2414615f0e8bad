"""The process between us and an MCP server on stdio: ``python -I -S keeper.py PARENT MOST_BYTES COMMAND…``.

The server is in our process group, and the group ends with whoever started us, however that ended.  What it writes
passes through here, so that no flood of it reaches the event loop: so many lines and bytes a second, and a line that
is too long is answered by an error in its place.  The standard library alone; no Django.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LINES_A_SECOND = 500.0
BYTES_A_SECOND = 20_000_000.0
BURST_S = 2.0
CHUNK_BYTES = 65_536
#: JSON-RPC's own range for servers; calls.py reads it.
TOO_LARGE = -32092
_ID = rb'"id"\s*:\s*(?P<id>\d{1,18}|"[^"\\]{1,100}")'
#: Most write the id before the result or after it.
_FIRST = re.compile(rb'\s*\{\s*("jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_LAST = re.compile(_ID + rb'\s*(,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')


def main() -> None:
    parent, most_bytes, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    signal.signal(signal.SIGTERM, lambda *_: end())
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:  # it ended before the kernel knew
        end()
    try:
        server = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - an allowed command
        assert server.stdout is not None
        relay(server.stdout.fileno(), Lines(most_bytes))
    except OSError:
        pass
    finally:
        end()


def end() -> None:
    """Our whole group, ourselves included."""
    os.killpg(0, signal.SIGKILL)


def relay(source: int, lines: "Lines") -> None:
    """Until the server has closed its output, or nobody reads ours."""
    pace = Pace()
    while chunk := os.read(source, CHUNK_BYTES):
        rest = memoryview(lines.taken(chunk))
        pace.wait(chunk)
        while rest:
            rest = rest[os.write(1, rest) :]


class Pace:
    """Makes a server wait that writes faster than it may: its pipe fills, and it blocks."""

    def __init__(self) -> None:
        self.until = time.monotonic()

    def wait(self, chunk: bytes) -> None:
        now = time.monotonic()
        cost_s = max(chunk.count(b"\n") / LINES_A_SECOND, len(chunk) / BYTES_A_SECOND)
        self.until = max(self.until, now - BURST_S) + cost_s
        if self.until > now:
            time.sleep(self.until - now)


class Lines:
    """Whole lines of bounded length, whatever comes in: in the place of a longer one stands an error."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.line = bytearray()
        self.tail = b""
        self.size = 0

    def taken(self, chunk: bytes) -> bytes:
        """What of it is complete."""
        *ended, rest = chunk.split(b"\n")
        whole = b""
        for part in ended:
            self._add(part)
            whole += self._ended()
        self._add(rest)
        return whole

    def _add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= self.most_bytes:
            self.line += part
        else:
            self.line += part[:1_000]
            del self.line[1_000:]
            self.tail = (self.tail + part)[-1_000:]

    def _ended(self) -> bytes:
        line = bytes(self.line) if self.size <= self.most_bytes else self._refused()
        self.line, self.tail, self.size = bytearray(), b"", 0
        return line + b"\n" if line.strip() else b""

    def _refused(self) -> bytes:
        """An error for whoever waits for the line, if the line says who that is."""
        found = _FIRST.match(self.line) or _LAST.search(self.tail)
        if found is None:
            return b""
        error = {"code": TOO_LARGE, "message": f"The answer is larger than {self.most_bytes:,} bytes."}
        return json.dumps({"jsonrpc": "2.0", "id": json.loads(found["id"]), "error": error}).encode()


if __name__ == "__main__":
    main()
