"""A submission: what a goal is given with, and the checks on it that need no database."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agentsys.agents import definition
from agentsys.core import schemas
from agentsys.core.errors import InvalidInput, PayloadTooLarge, ToolOutputTooLarge
from agentsys.core.faults import fault
from agentsys.core.sanitize import clean

from . import files

MAX_GOAL = 20_000
MAX_INPUT_BYTES = 1_000_000
MAX_SCHEMA_BYTES = 100_000
MAX_LABELS, MAX_LABEL = 50, 200
MAX_FILES_BYTES = 20_000_000
MAX_DEADLINE_S = 366 * 86400


@dataclass(frozen=True, slots=True)
class Submission:
    """One run to be.  ``goal`` or ``plan`` is needed; the rest narrows how it is done."""

    agent: str
    goal: str = ""
    plan: Any = None
    input: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    priority: int = 0
    start_at: datetime | None = None
    deadline_s: float | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    output_schema: Any = None
    effects: str = "live"

    def digest(self) -> str:
        """SHA-256 of everything that makes two submissions the same.

        Raises:
            InvalidInput: something in it is no JSON.
        """
        parts = {name: getattr(self, name) for name in self.__slots__ if name != "files"}
        parts["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        try:
            text = json.dumps(parts, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError) as error:  # no JSON: keys, endless numbers, circles
            raise InvalidInput(f"The submission cannot be written as JSON: {str(error)[:200]}") from None
        return hashlib.sha256(text.encode()).hexdigest()


def check(request: Submission) -> None:
    """Refuse what no agent could run, all faults at once.

    Raises:
        InvalidInput: ``errors`` lists [{path, code, message}].
        PayloadTooLarge: input or files are over their limits.
    """
    errors = [
        *_goal_faults(request),
        *_label_faults(request),
        *_time_faults(request),
        *definition.model_faults(request.model),
        *definition.limit_faults(request.limits),
        *_schema_faults(request.output_schema),
    ]
    if errors:
        raise InvalidInput("The submission is not valid; see errors.", errors=errors)
    _check_sizes(request)


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _goal_faults(request: Submission) -> list[dict[str, str]]:
    faults = []
    if not request.goal.strip() and request.plan is None:
        faults.append(fault("goal", "missing", "Give a goal, or a plan, or both."))
    if len(request.goal) > MAX_GOAL:
        faults.append(fault("goal", "too_long", f"A goal may have {MAX_GOAL} characters."))
    if not _can_be_stored(request.goal):
        faults.append(fault("goal", "bad_value", "A goal may not contain NUL or half a surrogate pair."))
    if not isinstance(request.priority, int) or not _is_number(request.priority, -10, 10):
        faults.append(fault("priority", "bad_value", "Priority is a whole number from -10 to 10."))
    if request.effects != "live":
        faults.append(fault("effects", "unavailable", "Only 'live' is available."))
    return faults


def _can_be_stored(value: Any, *, max_bytes: int = MAX_INPUT_BYTES) -> bool:
    """Whether PostgreSQL's JSON holds it as it is, and it is not too large."""
    try:
        return bool(clean(value, max_bytes=max_bytes) == value)
    except ToolOutputTooLarge:
        return False


def _label_faults(request: Submission) -> list[dict[str, str]]:
    if len(request.labels) > MAX_LABELS:
        return [fault("labels", "too_many", f"At most {MAX_LABELS} labels.")]
    texts = [text for pair in request.labels.items() for text in pair]
    if any(not isinstance(text, str) or len(text) > MAX_LABEL or not _can_be_stored(text) for text in texts):
        return [fault("labels", "bad_value", f"Labels map texts to texts of at most {MAX_LABEL} characters.")]
    return []


def _time_faults(request: Submission) -> list[dict[str, str]]:
    faults = []
    seconds, start_at = request.deadline_s, request.start_at
    if seconds is not None and (not _is_number(seconds, 0, MAX_DEADLINE_S) or not seconds):
        message = "deadline_s is a number of seconds above 0, at most a year."
        faults.append(fault("deadline_s", "bad_value", message))
    if start_at is not None and not _is_moment(start_at):
        faults.append(fault("start_at", "bad_value", "start_at is a time with its offset, at most a year from now."))
    return faults


def _is_moment(time: datetime) -> bool:
    if time.tzinfo is None:
        return False
    try:
        return time.astimezone(UTC) <= datetime.now(UTC) + timedelta(seconds=MAX_DEADLINE_S)
    except OverflowError:
        return False


def _schema_faults(schema: Any) -> list[dict[str, str]]:
    if not _can_be_stored(schema, max_bytes=MAX_SCHEMA_BYTES):
        message = f"A schema may have {MAX_SCHEMA_BYTES} bytes of JSON, and no NUL or half a surrogate pair in it."
        return [fault("output_schema", "bad_value", message)]
    return schemas.faults(schema)


def _check_sizes(request: Submission) -> None:
    try:
        clean(request.input, max_bytes=MAX_INPUT_BYTES)
    except ToolOutputTooLarge:
        raise PayloadTooLarge(f"input may have {MAX_INPUT_BYTES} bytes of JSON, nested at most 64 deep.") from None
    if len(request.files) > files.MAX_FILES:
        raise PayloadTooLarge(f"At most {files.MAX_FILES} files a run.")
    for name, content in request.files.items():
        files.check_name(name)
        if len(content) > files.MAX_FILE_BYTES:
            raise PayloadTooLarge(f"A file may have {files.MAX_FILE_BYTES} bytes.", name=name)
    if sum(map(len, request.files.values())) > MAX_FILES_BYTES:
        raise PayloadTooLarge(f"The files of a submission may have {MAX_FILES_BYTES} bytes together.")
