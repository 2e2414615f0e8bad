"""An MCP server on stdio that does as its arguments say: ``mcp_server.py FAULT [FILE]``.  The standard library alone.

FILE, where it is given, has the tools it lists as JSON; each call is a line in FILE with ``.calls`` at its end.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FAULT = sys.argv[1] if len(sys.argv) > 1 else "none"
FILE = Path(sys.argv[2]) if len(sys.argv) > 2 else None
NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}
DOUBLE = {"name": "double", "description": "Double a number.", "inputSchema": NUMBER}
FLOOD = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 50}})


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hang() -> None:
    while True:
        time.sleep(3600)


def flood() -> None:
    while True:
        sys.stdout.write((FLOOD + "\n") * 100)


def tools() -> list[dict[str, Any]]:
    if FILE is not None and FILE.exists():
        return json.loads(FILE.read_text())
    listed = {
        "names": [
            {**DOUBLE, "name": name} for name in ("with space", "nul\0", "double", "twice", "twice", "é", "x" * 70, "")
        ],
        "many": [{**DOUBLE, "name": f"t{n}"} for n in range(10_000)],
        "schemas": [
            DOUBLE,
            {**DOUBLE, "name": "no_schema", "inputSchema": {"type": "object", "properties": {"a": {"type": "wat"}}}},
            {**DOUBLE, "name": "outside", "inputSchema": {"type": "object", "$ref": "http://10.0.0.1/schema"}},
            {**DOUBLE, "name": "large", "description": "x" * 200_000},
        ],
    }
    return listed.get(FAULT, [DOUBLE])


def called(number: Any, params: dict[str, Any]) -> None:
    if FILE is not None:
        with Path(f"{FILE}.calls").open("a") as file:
            file.write(json.dumps(params) + "\n")
    if FAULT == "hang-call":
        hang()
    if FAULT == "flood":
        flood()
    if FAULT == "dies":
        os._exit(3)
    text = str(2 * params.get("arguments", {}).get("n", 0))
    say(ANSWERS.get(FAULT, lambda number: {"id": number, "result": _text(text)})(number))


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


ANSWERS: dict[str, Any] = {
    "huge": lambda number: {"id": number, "result": _text("x" * 100_000_000)},
    "huge-id-last": lambda number: {"result": _text("x" * 10_000_000), "id": number},
    "wrong-id": lambda _: {"id": 999_999, "result": _text("not yours")},
    "no-result": lambda number: {"id": number, "result": {"content": "what"}},
    "fails": lambda number: {"id": number, "result": _text("no luck", isError=True)},
    "nul": lambda number: {"id": number, "result": _text("a\0b")},
    "lies": lambda number: {"id": number, "result": {"content": [], "structuredContent": {"n": "text"}}},
    "environment": lambda number: {"id": number, "result": _text(json.dumps(dict(os.environ)))},
}


def main() -> None:
    if FAULT == "garbage":
        sys.stdout.write("this is no JSON\n" * 5)
    for line in sys.stdin:
        asked = json.loads(line)
        number, method = asked.get("id"), asked["method"]
        if method == "initialize":
            if FAULT == "hang-initialize":
                hang()
            version = asked["params"]["protocolVersion"]
            capabilities = {"tools": {"listChanged": True}}
            info = {"name": "hostile", "version": "1"}
            say(
                {"id": number, "result": {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info}}
            )
        elif method == "tools/list":
            if FAULT == "hang-list":
                hang()
            say({"id": number, "result": {"tools": tools()}})
        elif method == "tools/call":
            called(number, asked["params"])
        elif number is not None:
            say({"id": number, "error": {"code": -32601, "message": "Method not found"}})


main()
