"""agentsys as the client that the official suite tests: ``conformance_client.py URL`` calls each of its tools."""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

os.environ |= {"DJANGO_SETTINGS_MODULE": "agentsys.settings", "SECRET_KEY": "x", "AGENTSYS_DB_MODE": "persistent"}
os.environ["AGENTSYS_HTTP_ALLOW"] = urlsplit(sys.argv[1]).netloc

import django

django.setup()

from agentsys.core import loop
from agentsys.tools.mcp import door, listing, pool
from agentsys.tools.mcp.door import Pin
from agentsys.tools.mcp.endpoint import Endpoint

EXAMPLES: dict[str, Any] = {"number": 3, "integer": 3, "string": "text", "boolean": True}


def main() -> None:
    endpoint = Endpoint("suite", "suite", url=sys.argv[1], trusted=True)
    usable, _ = listing.judged("suite", door.tools_of(endpoint).tools)
    for tool in usable:
        pin = Pin(tool.name, tool.digest, True, tool.definition.get("outputSchema"))
        schema = tool.definition["inputSchema"].get("properties", {})
        arguments = {name: EXAMPLES.get(part.get("type"), "text") for name, part in schema.items()}
        print(loop.run(door.call(endpoint, pin, arguments, left_s=20), timeout_s=20))
    loop.run(pool.close(), timeout_s=10)


main()
