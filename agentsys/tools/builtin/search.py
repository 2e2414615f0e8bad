"""Found in a text: addresses, numbers, dates, and what a regular expression matches."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.builtin.types import Text
from agentsys.tools.registry import tool

Kind = Annotated[Literal["emails", "urls", "numbers", "dates", "regex"], Field(description="What to look for.")]
Pattern = Annotated[str, Field(max_length=500, description="A Python regular expression; only for kind=regex.")]
Unique = Annotated[bool, Field(description="Keep each match once.")]
Limit = Annotated[int, Field(ge=1, le=10_000, description="At most so many matches.")]

#: Two seconds of CPU for a regular expression, a little more of time for a busy machine.
REGEX_CPU_S = 2
REGEX_TIMEOUT_S = 6.0
REGEX_MEMORY_BYTES = 512 * 1024 * 1024

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,10}[A-Za-z]{2,24}(?![A-Za-z0-9-])")
_URL = re.compile(r"https?://[^\s<>\"`]{1,4000}", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?(?:[eE][-+]?\d{1,3}+)?(?!\w)")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)[a-z]{0,6}\.?"
_DATE = re.compile(
    r"(?<!\d)(?:"
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
    r"|\d{1,2}([./])\d{1,2}\1\d{4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)? {_MONTH} \d{{4}}"
    rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}"
    r")(?!\d)"
)


class Matches(TypedDict):
    matches: list[str] | list[int | float]
    count: int


@tool(
    name="text.extract",
    effect="pure",
    lane="compute",
    timeout_s=15.0,
    result_path="matches",
    examples=(
        "extract the email addresses",
        "extract all URLs from the text",
        "find the numbers in it",
        "extract the dates from the text",
        "find everything that matches the regex 'v[0-9]+'",
    ),
)
def extract(text: Text, kind: Kind, pattern: Pattern = "", unique: Unique = False, limit: Limit = 1_000) -> Matches:
    """Find all email addresses, URLs, numbers, dates or matches of a regular expression in a text.

    Matches come in their order, numbers as numbers; `unique` keeps each once.  A regular expression
    with a group yields the group.
    """
    if pattern and kind != "regex":
        raise ToolFailed(f"A pattern is only for kind=regex, not for kind={kind}; leave it out or choose regex.")
    found: Iterable[Any] = _regex(text, pattern, limit, unique) if kind == "regex" else _FINDERS[kind](text)
    kept = list(islice(_unique(found) if unique else found, limit))
    return Matches(matches=kept, count=len(kept))


def _unique(found: Iterable[Any]) -> Iterator[Any]:
    seen: set[Any] = set()
    for item in found:
        if item not in seen:
            seen.add(item)
            yield item


def _emails(text: str) -> Iterator[str]:
    """From each @ outwards: a pattern that begins with the name is quadratic in a long word."""
    at = text.find("@")
    while at >= 0:
        before = text[max(0, at - 64) : at]
        name = before[len(before.rstrip(_LOCAL)) :].lstrip(".-%")
        domain = _DOMAIN.match(text, at + 1, at + 255)
        if name and domain:
            yield f"{name}@{domain[0]}"
        at = text.find("@", at + 1)


def _urls(text: str) -> Iterator[str]:
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?'*_")
        while url.endswith((")", "]", "}")) and url.count(url[-1]) > url.count({")": "(", "]": "[", "}": "{"}[url[-1]]):
            url = url[:-1].rstrip(".,;:!?'*_")
        yield url


def _numbers(text: str) -> Iterator[int | float]:
    for match in _NUMBER.finditer(text):
        digits = match[0].replace(",", "")
        if len(digits) > 300:
            continue  # no number that anybody means
        yield float(digits) if re.search(r"[.eE]", digits) else int(digits)


def _dates(text: str) -> Iterator[str]:
    return (match[0] for match in _DATE.finditer(text))


_FINDERS: dict[str, Any] = {"emails": _emails, "urls": _urls, "numbers": _numbers, "dates": _dates}

#: Nothing else ends a regular expression that backtracks for ever: the interpreter cannot be interrupted in
#: one, and compiling may take all memory.  So it runs in a process of its own, which limits itself.
_SCRIPT = """
import json, re, resource, sys
cpu_s, memory = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
given = json.load(sys.stdin)
found = []
try:
    seen = set()
    for match in re.compile(given["pattern"]).finditer(given["text"]):
        item = match[1] if match.re.groups else match[0]
        if item is None or (given["unique"] and item in seen):
            continue
        seen.add(item)
        found.append(item)
        if len(found) >= given["limit"]:
            break
    json.dump({"found": found}, sys.stdout)
except (re.error, OverflowError, RecursionError) as error:
    json.dump({"error": str(error)[:300]}, sys.stdout)
"""


def _regex(text: str, pattern: str, limit: int, unique: bool) -> list[str]:
    if not pattern:
        raise ToolFailed("kind=regex needs a pattern.")
    given = json.dumps({"text": text, "pattern": pattern, "limit": limit, "unique": unique})
    command = [sys.executable, "-I", "-S", "-c", _SCRIPT, str(REGEX_CPU_S), str(REGEX_MEMORY_BYTES)]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=given.encode(), capture_output=True, timeout=REGEX_TIMEOUT_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise ToolFailed("The regular expression takes too long or too much memory; make it simpler.") from error
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ToolFailed(f"The regular expression does not work: {answer['error']}")
    return list(answer["found"])
