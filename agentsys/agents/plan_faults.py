"""The faults of a plan, collected so that its writer gets all of them at once."""

import difflib
import math
from collections.abc import Collection
from typing import Any, NoReturn

from agentsys.agents.references import MAX_DEPTH, join_path
from agentsys.core.errors import PayloadTooLarge, PlanInvalid
from agentsys.core.path_evaluation import MAX_DIGITS, weigh

MAX_FAULTS = 100
#: Of a plan as JSON.
MAX_PLAN_BYTES = 2_000_000
_MAX_BITS = int(MAX_DIGITS * math.log2(10))
#: Searching for a similar name compares with every known one: a few hints help, a thousand cost seconds.
_MAX_HINTS = 20


class Faults:
    """Faults in the order found; the hundredth ends the search."""

    def __init__(self) -> None:
        self._found: list[dict[str, str]] = []
        self._hints_left = _MAX_HINTS

    def add(self, path: str, code: str, message: str) -> None:
        """
        Raises:
            PlanInvalid: there are too many to go on.
        """
        self._found.append({"path": path, "code": code, "message": message})
        if len(self._found) == MAX_FAULTS:
            self.fatal("", "too_many_faults", "There may be more faults.")

    def __len__(self) -> int:
        return len(self._found)

    def fatal(self, path: str, code: str, message: str) -> NoReturn:
        """A fault that makes it useless to look for others."""
        self._found.append({"path": path, "code": code, "message": message})
        self.raise_any()
        raise AssertionError("unreachable")

    def raise_any(self) -> None:
        """
        Raises:
            PlanInvalid: something was found; ``errors`` in its data has all of it.
        """
        if not self._found:
            return
        first, more = self._found[0], len(self._found) - 1
        where = f"{first['path']}: " if first["path"] else ""
        others = f" ({more} more: see errors.)" if more else ""
        raise PlanInvalid(f"The plan is not valid. {where}{first['message']}{others}", errors=self._found)

    def hint(self, name: str, known: Collection[str]) -> str:
        """`` Did you mean x?`` or nothing."""
        if self._hints_left == 0 or len(name) > 100:
            return ""
        self._hints_left -= 1
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        return f" Did you mean {nearest[0]}?" if nearest else ""


def shown(value: object) -> str:
    """A value for a message, in quotes and cut."""
    text = str(value)
    return repr(text if len(text) <= 80 else text[:77] + "…")


def type_name(value: object) -> str:
    """JSON's name of the value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def check_storable(data: Any, path: str, faults: Faults) -> None:
    """Find what JSON or the database cannot carry: NUL, lone surrogates, NaN, other types than JSON's.

    Raises:
        PlanInvalid: there is any such thing, or it is too large or too deep to be looked at further.
    """
    before = len(faults)
    try:
        weigh(data, limit_bytes=MAX_PLAN_BYTES)
    except PayloadTooLarge:
        message = f"A plan has at most {MAX_PLAN_BYTES:,} bytes; send data as input or files."
        faults.fatal(path, "too_large", message)
    if not _is_sound(data, 0):
        _check_value(data, path, faults, 0)
    if len(faults) > before:  # such text must not reach a message either
        faults.raise_any()


def _is_sound(value: Any, depth: int) -> bool:
    """Whether :func:`_check_value` would find nothing: nearly always, and most of its cost are the paths."""
    if depth > MAX_DEPTH:
        return False
    kind = type(value)
    if kind is dict:
        return not any(map(_key_fault, value)) and all(_is_sound(part, depth + 1) for part in value.values())
    if kind is list:
        return all(_is_sound(part, depth + 1) for part in value)
    return not _scalar_fault(value)


def _check_value(value: Any, path: str, faults: Faults, depth: int) -> None:
    if depth > MAX_DEPTH:
        faults.fatal(path, "too_deep", f"This is nested deeper than {MAX_DEPTH} levels; make it flatter.")
    if isinstance(value, dict):
        for key, part in value.items():
            below = join_path(path, key)
            if reason := _key_fault(key):
                faults.add(path, "bad_value", reason)
            _check_value(part, below, faults, depth + 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check_value(part, f"{path}[{index}]", faults, depth + 1)
    elif reason := _scalar_fault(value):
        faults.add(path, "bad_value", f"The value {reason}; remove it.")


def _key_fault(key: Any) -> str:
    if not isinstance(key, str):
        return "Keys of an object must be texts."
    return f"A key {reason}; remove it." if (reason := _text_fault(key)) else ""


def _scalar_fault(value: Any) -> str:
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, float):
        return "" if math.isfinite(value) else "is NaN or infinite, which JSON does not have"
    if isinstance(value, int):
        return "" if value.bit_length() <= _MAX_BITS else f"is a number of more than {MAX_DIGITS:,} digits"
    return "" if value is None else f"is not JSON but {type(value).__name__}"


def _text_fault(text: str) -> str:
    if "\0" in text:
        return "has a NUL character in it"
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return "has half a surrogate pair in it, which is no character"
    return ""
