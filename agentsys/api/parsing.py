"""Bodies from outside.  What the database or a later reader could not carry is refused here.

JSON is taken as UTF-8 and strictly: no NaN, no duplicate names, no NUL, no lone surrogates, no huge
numbers, no bottomless nesting.  Sizes are checked before a byte is parsed.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import DataAndFiles, JSONParser, MultiPartParser

from agentsys.core.errors import InvalidInput, PayloadTooLarge

#: Nesting of a body.  A plan's templates may have 64 levels of their own.
MAX_DEPTH = 80
MAX_DIGITS = 1_000
#: Only a body with one of these escapes, or with a raw NUL, can hold what must not be stored.
_SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})|\x00")


def loads(text: str) -> Any:
    """Strict JSON.  Costs about 1 µs an object on top of Python's parser.

    Raises:
        ParseError: (400) it is no JSON, or not one that can be stored; the message says where.
    """
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_int=_integer, parse_float=_float, object_pairs_hook=_object
        )
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        raise ParseError(f"The body is not JSON: {error.msg} ({at}).") from None
    _check_depth(value)
    if _SUSPECT.search(text):
        _check_text(value)
    return value


def _constant(name: str) -> float:
    raise ParseError(f"The body is not JSON: {name} is not a number of JSON.")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ParseError(f"A number has more than {MAX_DIGITS:,} digits.")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ParseError(f"The number {digits[:40]} is too large.")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParseError(f"The name {twice[:80]!r} appears twice in one object.")
    return found


def _too_deep() -> ParseError:
    return ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _inside(item) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _too_deep()


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        return iter(item.values())
    return iter(item) if isinstance(item, list) else iter(())


def _check_text(value: Any) -> None:
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            check_storable(item)
        elif isinstance(item, dict):
            for name in item:
                check_storable(name)
            rest.extend(item.values())
        elif isinstance(item, list):
            rest.extend(item)


def check_storable(text: str) -> None:
    """
    Raises:
        ParseError: NUL or half of a surrogate pair, which PostgreSQL does not store.
    """
    if "\x00" in text:
        raise ParseError("A text contains the NUL character (\\u0000), which cannot be stored.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParseError("A text contains half of a surrogate pair (\\ud800…), which is no character.") from None


def check_size(content_length: str | None) -> None:
    """Refuse by the header alone, before a byte is read.

    Raises:
        PayloadTooLarge: the body is larger than ``AGENTSYS_MAX_BODY_BYTES``.
    """
    try:
        length = int(content_length or 0)
    except ValueError:
        raise ParseError("Content-Length is not a number.") from None
    if length > settings.MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The body is larger than {settings.MAX_BODY_BYTES:,} bytes.")


def _decode(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ParseError(f"{what} is not UTF-8.") from None


class StrictJSONParser(JSONParser):
    """JSON as :func:`loads` takes it."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        check_size(_content_length(parser_context))
        return loads(_decode(stream.read(settings.MAX_BODY_BYTES + 1), "The body").removeprefix("\ufeff"))


class SubmissionFormParser(MultiPartParser):
    """A multipart form as the same body that JSON would be.

    Parts named ``files`` are the files, named by their file names.  In ``plan``, ``input``, ``limits``,
    ``labels``, ``output_schema``, ``priority`` and ``deadline_s`` is JSON, in the other parts text.
    """

    JSON_PARTS = frozenset({"plan", "input", "limits", "labels", "output_schema", "priority", "deadline_s"})

    def parse(  # type: ignore[override]
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        check_size(_content_length(parser_context))
        found = super().parse(stream, media_type, parser_context)
        body: dict[str, Any] = {}
        for name, values in found.data.lists():
            if len(values) > 1:
                raise _fault(name, "duplicate", "The part appears more than once.")
            check_storable(name)
            check_storable(values[0])
            body[name] = loads(values[0]) if name in self.JSON_PARTS else values[0]
        return body | _files(found)


def _files(found: "DataAndFiles[Any, Any]") -> dict[str, Any]:
    files: dict[str, bytes] = {}
    for part, uploads in found.files.lists():
        for upload in uploads:
            name = upload.name or ""
            if part != "files":
                raise _fault(part, "unknown_field", "Send a file in a part named files; its file name names it.")
            if name in files:
                raise _fault("files", "duplicate", f"There are two files named {name!r}.")
            check_storable(name)
            files[name] = upload.read()
    return {"files": files} if files else {}


def _fault(path: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(f"{path}: {message}", errors=[{"path": path, "code": code, "message": message}])


def _content_length(context: Mapping[str, Any] | None) -> str | None:
    request = (context or {}).get("request")
    return request.META.get("CONTENT_LENGTH") if request is not None else None
