"""Text from runs, made fit to be looked at: bounded, and without characters that play tricks.

Goals, outputs, errors and file names come from people, models and the web.  Templates escape them;
this module keeps them short and turns what a browser would obey or hide (controls, marks that turn
the writing direction) into visible escapes.
"""

import json
import re
from datetime import datetime
from typing import Any

#: The most of one value that a page shows, in characters.
MAX_SHOWN_CHARS = 20_000
_TRICKY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def visible(text: str) -> str:
    """``text`` with control and direction characters written out as ``\\u202e``."""
    return _TRICKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def clip(text: object, limit: int) -> str:
    """The first ``limit`` characters on one line, with … where something is missing."""
    line = " ".join(str(text)[: limit * 4].split())
    return visible(line[: limit - 1] + "…" if len(line) > limit else line)


def block(text: str, limit: int = MAX_SHOWN_CHARS) -> str:
    """``text`` over several lines, its rest replaced by how much of it there is."""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])}\n… {len(text) - limit:,} more characters"


def pretty(value: Any, limit: int = MAX_SHOWN_CHARS) -> str:
    """A value as indented JSON; text is shown as it is.  About 20 ms for the largest output of a step."""
    if isinstance(value, str):
        return block(value, limit)
    try:
        return block(json.dumps(value, ensure_ascii=False, indent=2), limit)
    except RecursionError:
        return "(nested too deeply to be shown)"


def compact(value: Any, limit: int = 160) -> str:
    """A value as JSON on one line."""
    if not value:
        return ""
    try:
        return clip(json.dumps(value, ensure_ascii=False), limit)
    except RecursionError:
        return "(nested too deeply to be shown)"


def moment(at: datetime | None) -> str:
    """A time of day in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def duration(seconds: float | None) -> str:
    """``42 ms``, ``3.1 s``, ``3 m 12 s``, ``2 h 5 m``, ``4 d 3 h``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{max(seconds, 0) * 1000:.0f} ms" if seconds < 0.995 else f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest_s} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(size_bytes: int) -> str:
    """``713 B``, ``12.4 KB``, ``3.1 MB``."""
    amount = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
