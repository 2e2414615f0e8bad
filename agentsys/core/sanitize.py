"""Make any value safe for a jsonb column, before the commit that would otherwise fail after the effect."""

import base64
import dataclasses
import datetime
import enum
import math
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from agentsys.core.errors import ToolOutputTooLarge

#: An integer with more digits becomes text: nobody computes with it, and Python refuses to print 4,301.
MAX_INT_DIGITS = 1_000
_MAX_PLAIN_INT = 10**MAX_INT_DIGITS
#: NUL is the one character that PostgreSQL's text cannot hold.
REPLACEMENT = "\ufffd"


def clean(value: Any, *, max_bytes: int = 1_000_000, max_depth: int = 64) -> Any:
    """A copy of plain dicts, lists, strings, numbers, booleans and None that PostgreSQL takes.

    NUL and lone surrogates become U+FFFD, NaN and infinities None, keys text, long integers text,
    bytes text (UTF-8) or else base64, dates ISO 8601, a Decimal a number when that loses nothing and else
    text, models and dataclasses objects, tuples and sets lists, all else its type's name.

    Args:
        max_bytes: Bound of the value's size as compact JSON in UTF-8, escapes not counted.
        max_depth: How many containers may be inside each other.

    Raises:
        ToolOutputTooLarge: it is larger or deeper; a container that holds itself is too deep.
    """
    return _Cleaner(max_bytes).value(value, max_depth)


class _Cleaner:
    """One walk; ``left`` is what remains of the bytes.  The bound also ends a walk over a small value
    that refers to the same parts many times over."""

    __slots__ = ("left", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = self.left = max_bytes

    def value(self, value: Any, depth: int) -> Any:
        # The exact types first: they are nearly all there is, and this runs on every step.
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            self.take(4)
            return value
        if kind is dict:
            return self.mapping(value, depth)
        if kind is list:
            return self.items(value, depth)
        if kind is int:
            return self.integer(value)
        if kind is float:
            return self.number(value)
        return self.value(_plain(value), depth)

    def take(self, size_bytes: int) -> None:
        self.left -= size_bytes
        if self.left < 0:
            raise ToolOutputTooLarge(f"The output is larger than {self.max_bytes} bytes; ask for less.")

    def text(self, text: str) -> str:
        self.take(len(text) + 2)  # before the copies below
        if "\0" in text:
            text = text.replace("\0", REPLACEMENT)
        if text.isascii():
            return text
        encoded = text.encode("utf-8", "surrogatepass")
        self.take(len(encoded) - len(text))
        # surrogatepass wrote a pair as two 3-byte forms, which utf-8 refuses: each byte is then replaced.
        return text if _is_utf8(encoded) else _without_surrogates(text)

    def mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        below = self.enter(depth)
        return {
            self.text(key) if type(key) is str else self.text(_key(key)): self.value(item, below)
            for key, item in mapping.items()
        }

    def items(self, items: Iterable[Any], depth: int) -> list[Any]:
        below = self.enter(depth)
        return [self.value(item, below) for item in items]

    def enter(self, depth: int) -> int:
        if depth <= 0:
            raise ToolOutputTooLarge("The output is nested too deeply.")
        self.take(2)
        return depth - 1

    def integer(self, number: int) -> int | str:
        if -_MAX_PLAIN_INT < number < _MAX_PLAIN_INT:
            self.take(1 + int(number.bit_length() * 0.302))
            return number
        self.take(number.bit_length() // 3)
        return _digits(number)

    def number(self, number: float) -> float | None:
        self.take(8)
        return number if math.isfinite(number) else None


def _is_utf8(encoded: bytes) -> bool:
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _without_surrogates(text: str) -> str:
    # By way of UTF-16 two halves that belong together become the one character they mean.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _digits(number: int) -> str:
    """Hexadecimal beyond what Python prints (4,300 digits); that takes linear time, decimals do not."""
    try:
        return str(number)
    except ValueError:
        return hex(number)


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        return _key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return _digits(int(key))
    if isinstance(key, float | Decimal | uuid.UUID | datetime.date | datetime.time):
        return str(key)
    if isinstance(key, bytes):
        return _bytes(key)
    return f"<{type(key).__name__}>"


def _plain(value: Any) -> Any:
    """One step towards JSON: the result is of a type that ``_Cleaner.value`` knows."""
    for kinds, convert in _CONVERTERS:
        if isinstance(value, kinds):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return f"<{type(value).__name__}>"  # not its repr: that may hold addresses or secrets


def _bytes(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii")


def _decimal(value: Decimal) -> int | float | str | None:
    if not value.is_finite():
        return None
    if value == value.to_integral_value() and abs(value.adjusted()) < 15:
        return int(value)
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def _model(value: BaseModel) -> dict[str, Any]:
    extra = value.__pydantic_extra__ or {}
    return {name: getattr(value, name) for name in type(value).model_fields} | extra


_CONVERTERS: tuple[tuple[Any, Any], ...] = (
    (enum.Enum, lambda value: value.value),
    (str, str.__str__),
    (bool, bool),
    (int, int.__int__),
    (float, float.__float__),
    (Mapping, dict),
    (BaseModel, _model),
    (list | tuple | set | frozenset, list),
    (bytes | bytearray | memoryview, _bytes),
    (datetime.datetime | datetime.date | datetime.time, lambda value: value.isoformat()),
    (datetime.timedelta, lambda value: value.total_seconds()),
    (uuid.UUID, str),
    (Decimal, _decimal),
    (complex, str),
)
