"""One field of a step at a time: read it, check it, say what is wrong with it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from agentsys.agents.plan_faults import Faults, shown, type_name
from agentsys.agents.references import has_reference, join_path

#: A year, as the tool ``wait`` says to models; whoever runs a wait takes it from here.
MAX_WAIT_S = 31_536_000


class Fields:
    """The fields of one step.  A reader returns the default where a field is absent, null or wrong."""

    def __init__(self, raw: dict[str, Any], path: str, faults: Faults) -> None:
        self.raw, self.path, self._faults = raw, path, faults

    def fault(self, name: str, code: str, message: str) -> None:
        self._faults.add(f"{self.path}.{name}" if name else self.path, code, message)

    def given(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def is_blank(self, name: str) -> bool:
        """Absent or without a letter; a value of another type is not blank but a fault of its own."""
        value = self.raw.get(name)
        return value is None or (isinstance(value, str) and not value.strip())

    def text(self, name: str, *, max_chars: int) -> str:
        value = self.raw.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.fault(name, "type", f"{name} must be a text, not {type_name(value)}.")
        elif len(value) > max_chars:
            self.fault(name, "bad_value", f"{name} has at most {max_chars:,} characters, not {len(value):,}.")
        else:
            return value
        return ""

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        value = self.raw.get(name, default)
        if value is None:
            return "null" if "null" in choices else default
        if isinstance(value, str) and value in choices:
            return value
        wanted = ", ".join(choices)
        code = "bad_value" if isinstance(value, str) else "type"
        got = shown(value) if isinstance(value, str) else type_name(value)
        self.fault(name, code, f"{name} must be one of {wanted}, not {got}.")
        return default

    def flag(self, name: str) -> bool:
        value = self.raw.get(name)
        if value is not None and not isinstance(value, bool):
            self.fault(name, "type", f"{name} must be true or false, not {type_name(value)}.")
        return value is True

    def seconds(self, name: str, *, most: float) -> float | None:
        """Above 0 and at most ``most``."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(name, "type", f"{name} must be a number of seconds, not {type_name(value)}.")
        elif not 0 < value <= most:
            self.fault(name, "bad_value", f"{name} must be above 0 and at most {most:,g}.")
        else:
            return float(value)
        return None

    def count(self, name: str, *, most: int) -> int | None:
        """A whole number from 1 to ``most``."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(name, "type", f"{name} must be a whole number, not {type_name(value)}.")
        elif not 1 <= value <= most:
            self.fault(name, "bad_value", f"{name} must be from 1 to {most}.")
        else:
            return value
        return None

    def object(self, name: str) -> dict[str, Any]:
        value = self.raw.get(name)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.fault(name, "type", f"{name} must be an object of names and values, not {type_name(value)}.")
        return {}

    def keys(self, name: str) -> list[tuple[str, str]]:
        """(where, key) of a list of step keys."""
        value = self.raw.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(name, "type", f"{name} must be a list of step keys, not {type_name(value)}.")
            return []
        found = [(f"{self.path}.{name}[{index}]", item) for index, item in enumerate(value)]
        for where, item in found:
            if not isinstance(item, str):
                self._faults.add(where, "type", f"A dependency is a step's key, not {type_name(item)}.")
        return [(where, item) for where, item in found if isinstance(item, str)]


def check_wait(fields: Fields, arguments: dict[str, Any]) -> None:
    """``{"seconds": number}`` or ``{"until": time with its offset}``, exactly one of them."""
    for name in arguments.keys() - {"seconds", "until"}:
        where = join_path("arguments", name)
        fields.fault(where, "argument_unknown", "wait takes only seconds or until.")
    given = [name for name in ("seconds", "until") if arguments.get(name) is not None]
    if len(given) != 1:
        code = "argument_value" if given else "argument_missing"
        fields.fault("arguments", code, "wait takes exactly one of seconds (a number) and until (a time).")
        return
    value = arguments[given[0]]
    if not has_reference(value):
        message = _seconds_fault(value) if given[0] == "seconds" else _until_fault(value)
        if message:
            fields.fault(f"arguments.{given[0]}", "argument_type", message)


def _seconds_fault(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= MAX_WAIT_S:
        return ""
    return f"seconds must be a number from 0 to {MAX_WAIT_S:,}."


def _until_fault(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is not None:
        return ""
    return "until must be an ISO 8601 time with its offset, such as 2030-01-01T12:00:00Z."
