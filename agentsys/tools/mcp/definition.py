"""What a person may say of a server, checked before it is stored."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from django.conf import settings

from agentsys.accounts.credential_terms import named_in
from agentsys.core import http_guard
from agentsys.core.errors import AgentSysError
from agentsys.core.faults import Fault, fault
from agentsys.core.http_headers import checked_headers
from agentsys.tools import registry
from agentsys.tools.mcp import endpoint, listing
from agentsys.tools.models import Transport

FIELDS = ("name", "transport", "command", "args", "url", "headers", "timeout_s", "enabled", "trusted")
#: Whoever changes one of them may have another server answer: its word on effects is believed no more.
ADDRESS = ("transport", "command", "args", "url", "headers")
DEFAULTS: dict[str, Any] = {
    "command": "",
    "args": [],
    "url": "",
    "headers": {},
    "timeout_s": 60.0,
    "enabled": True,
    "trusted": False,
}
MAX_ARGS, MAX_HEADERS, MAX_BYTES = 50, 20, 10_000
_SECRETS = ("auth", "cookie", "token", "secret", "password", "key", "credential", "session")


def faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with a whole server."""
    yield from _name_faults(given["name"])
    yield from _time_faults(given["timeout_s"])
    for flag in ("enabled", "trusted"):
        if not isinstance(given[flag], bool):
            yield fault(flag, "type", "Must be true or false.")
    if given["transport"] == Transport.STDIO:
        yield from _command_faults(given)
    elif given["transport"] == Transport.HTTP:
        yield from _url_faults(given)
    else:
        yield fault("transport", "bad_value", "transport must be stdio or http.")


def _name_faults(name: Any) -> Iterator[Fault]:
    if not isinstance(name, str) or not listing.SERVER_NAME.fullmatch(name):
        yield fault("name", "bad_value", "A name has letters, digits and _, a letter first, at most 40.")
    elif name in {tool.partition(".")[0] for tool in registry.all_tools()}:
        yield fault("name", "taken", f"There are tools called {name}.… already; give the server another name.")


def _time_faults(seconds: Any) -> Iterator[Fault]:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= registry.MAX_TIMEOUT_S:
        yield fault("timeout_s", "bad_value", f"timeout_s is above 0 and at most {registry.MAX_TIMEOUT_S:,.0f}.")


def _command_faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    args = given["args"]
    if given["url"] != "" or given["headers"] != {}:
        yield fault("url", "field_not_allowed", "A server on stdio has a command, no url and no headers.")
    if not isinstance(args, list) or not all(isinstance(arg, str) and "\0" not in arg for arg in args):
        yield fault("args", "type", "args is a list of texts without NUL.")
    elif len(args) > MAX_ARGS or not _is_storable(args):
        yield fault("args", "too_large", f"At most {MAX_ARGS} arguments of {MAX_BYTES:,} bytes together.")
    elif not isinstance(given["command"], str) or given["command"] not in settings.MCP_COMMANDS:
        names = ", ".join(sorted(settings.MCP_COMMANDS)) or "none"
        yield fault("command", "not_allowed", f"AGENTSYS_MCP_COMMANDS names what may be started: {names}.")
    elif endpoint.commanded(given["command"], args) is None:
        yield fault("args", "field_not_allowed", "This command takes no arguments: its line has no * for them.")


def _url_faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    if given["command"] != "" or given["args"] != []:
        yield fault("command", "field_not_allowed", "A server on http has a url, no command and no args.")
    try:
        if not isinstance(given["url"], str) or not 0 < len(given["url"]) <= 2_000 or not given["url"].isprintable():
            raise ValueError("An address of at most 2,000 characters is needed.")
        http_guard.check_url(httpx.URL(given["url"]))
    except (AgentSysError, httpx.InvalidURL, ValueError) as error:
        yield fault("url", "bad_value", str(error)[:300])
    yield from _header_faults(given["headers"])


def _header_faults(headers: Any) -> Iterator[Fault]:
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        yield fault("headers", "type", "headers is an object of names and texts.")
        return
    if len(headers) > MAX_HEADERS or not _is_storable(headers):
        yield fault("headers", "too_large", f"At most {MAX_HEADERS} headers of {MAX_BYTES:,} bytes together.")
        return
    try:
        checked_headers(headers)
    except AgentSysError as error:
        yield fault("headers", "bad_value", error.message)
    for name, value in headers.items():
        if any(word in name.lower() for word in _SECRETS) and not named_in(value):
            message = "Headers are kept and shown in the clear: no secrets here, but ${credential.name} of the vault."
            yield fault(f"headers.{name[:50]}", "secret", message)


def _is_storable(value: Any) -> bool:
    try:
        return len(json.dumps(value, ensure_ascii=False).encode()) <= MAX_BYTES and "\\u0000" not in json.dumps(value)
    except UnicodeEncodeError:
        return False
