"""Secrets that a call was given, taken out of whatever comes back of it, and out of this process's log.

Found are a secret itself, its lines where it has several, and either of them percent-encoded, escaped as JSON, HTML or
Python do, in base64 (at any offset) and in hexadecimal.  Not found is what a tool has taken to pieces or encoded twice.
"""

import base64
import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from agentsys.core.errors import AgentSysError

MASK = "[redacted]"
#: A line of a secret that is shorter tells nothing, and would be found everywhere.
LEAST_LINE_CHARS = 12
MAX_LINES = 500
#: Of a longer one only the usual ways to escape all of it are found, not each mixture of them.
MAX_MIXED_CHARS = 500
#: Of how many calls' secrets this process's log knows.
MAX_REMEMBERED = 64
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
#: Without one of these a text has nothing escaped in it.
_ESCAPED = re.compile(r"[%\\&+]")


class Hidden:
    """Values that nothing may show.  Its repr shows none."""

    __slots__ = ("_escaped", "_plain", "values")

    def __init__(self, values: Iterable[str]) -> None:
        self.values = frozenset(values)
        parts = sorted({part for value in self.values for part in _parts(value)}, key=len, reverse=True)
        self._plain = sorted({form for part in parts for form in _forms(part)}, key=len, reverse=True)
        self._escaped = [re.compile(_escapes(part)) for part in parts if len(part) <= MAX_MIXED_CHARS]

    def __bool__(self) -> bool:
        return bool(self.values)

    def __repr__(self) -> str:
        return f"<Hidden {len(self.values)}>"

    def text(self, text: str) -> str:
        """``text`` with :data:`MASK` in their place."""
        for form in self._plain:
            if form in text:
                text = text.replace(form, MASK)
        if self._escaped and _ESCAPED.search(text):
            for pattern in self._escaped:
                text = pattern.sub(MASK, text)
        return text

    def value(self, value: Any) -> Any:
        """The same of plain JSON, its keys included; costs nothing where nothing is hidden."""
        if not self.values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(part) for part in value]
        if isinstance(value, Mapping):
            return {self.value(name): self.value(part) for name, part in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if self.text(str(value)) != str(value) else value
        return value

    def raw(self, content: bytes) -> bytes:
        """The same of a file's content."""
        text = content.decode("latin-1")  # a character a byte, and back
        for form in self._plain:
            form = form.encode().decode("latin-1")
            text = text.replace(form, MASK)
        return text.encode("latin-1")

    def error(self, error: AgentSysError, *, data: Any) -> None:
        """Take them out of an error, given its data as plain JSON."""
        error.message, error.data = self.text(str(error.message)), self.value(data)
        error.args = (error.message,)


NOTHING = Hidden(())


def _parts(value: str) -> Iterator[str]:
    yield value
    yield value.strip()
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line for line in map(str.strip, lines[:MAX_LINES]) if len(line) >= LEAST_LINE_CHARS)


def _forms(part: str) -> Iterator[str]:
    raw = part.encode()
    yield part
    yield raw.hex()
    yield raw.hex().upper()
    yield from (quote(part), quote(part, safe=""), quote_plus(part), html.escape(part), repr(part)[1:-1])
    yield from (json.dumps(part, ensure_ascii=ascii_)[1:-1] for ascii_ in (True, False))
    for offset in range(3):
        yield from _base64(raw, offset)


def _base64(raw: bytes, offset: int) -> Iterator[str]:
    """What all base64 has in common that has ``raw`` at this offset (of three bytes) in it."""
    first, last = -(-8 * offset // 6), 8 * (offset + len(raw)) // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(b"\0" * offset + raw).decode()[first:last]


def _escapes(part: str) -> str:
    return "".join(_escape(character) for character in part)


def _escape(character: str) -> str:
    """A pattern of all ways to write a character."""
    code, ways = ord(character), [re.escape(character)]
    ways.append("".join(f"%(?i:{byte:02x})" for byte in character.encode()))
    units = character.encode("utf-16-be").hex()
    ways.append("".join(rf"\\u(?i:{units[i : i + 4]})" for i in range(0, len(units), 4)))
    if code < 256:
        ways.append(rf"\\x(?i:{code:02x})")
    if not character.isalnum():
        ways += [rf"&#0*{code};", rf"&#[xX]0*(?i:{code:x});"]
    if character in _SHORT:
        ways.append(re.escape("\\" + _SHORT[character]))
    if character in _ENTITIES:
        ways.append(f"&{_ENTITIES[character]};")
    if character == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"


# --- This process's log --------------------------------------------------------------------
_lock = threading.Lock()
_remembered: OrderedDict[frozenset[str], Hidden] = OrderedDict()


def hide(values: Iterable[str]) -> Hidden:
    """From now on no line of this process's log shows these; of many the last used ones."""
    wanted = frozenset(values)
    with _lock:
        hidden = _remembered.get(wanted) or Hidden(wanted)
        _remembered[wanted] = hidden
        _remembered.move_to_end(wanted)
        while len(_remembered) > MAX_REMEMBERED:
            _remembered.popitem(last=False)
    return hidden


def without_secrets(text: str) -> str:
    """``text`` for the log."""
    for hidden in list(_remembered.values()):
        text = hidden.text(text)
    return text
