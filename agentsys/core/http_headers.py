"""Which headers a caller may send, and what a server's Retry-After means."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from agentsys.core.errors import ToolFailed

MAX_VALUE_CHARS = 8_000
#: Whoever asks for a longer pause gets this one: a week.
MAX_RETRY_AFTER_S = 604_800.0
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
#: Printable, in ASCII or Latin-1; no CR, LF or NUL, which would write headers of their own.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: The client's own: framing, routing, the connection, what it can unpack.
_RESERVED = {
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
#: May follow a redirect to another origin; anything else could be a credential.
_HARMLESS = {"accept", "accept-language", "user-agent"}


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, if they can be sent as they are.

    Raises:
        ToolFailed: a name or value is malformed, too long, or the client's own.
    """
    for name, value in headers.items():
        if name.lower() in _RESERVED or name.lower().startswith("proxy-"):
            raise ToolFailed(f"The header {name} is set by the client; leave it out.")
        if not _NAME.fullmatch(name):
            raise ToolFailed(f"{name[:100]!r} is not a header's name.")
        if len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
            raise ToolFailed(f"The value of the header {name} is too long or has characters that no header may have.")
    return dict(headers)


def headers_elsewhere(headers: Mapping[str, str]) -> dict[str, str]:
    """What of the headers may be shown to another origin than the one they were meant for."""
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def retry_after_s(value: str) -> float | None:
    """Seconds of a Retry-After header, a number or a date; between 0 and a day, None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, min((moment - datetime.now(UTC)).total_seconds(), MAX_RETRY_AFTER_S))
