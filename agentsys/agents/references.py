"""References in templates: ``${key.path}`` stands for a value of an earlier step.

A template is any JSON.  In its strings (never in its keys) ``${key}`` is the whole output of step
``key`` and what follows the key is JMESPath over that output: ``${fetch.title}``, ``${list.items[0]}``,
``${list.items[?done].name}``, ``${rows | length(@)}``.  Braces balance, braces inside ``'…'``, ``"…"``
and backticks do not count.  ``$${`` is a literal ``${``.

A string that is one reference keeps the value's type.  Inside text, strings stay and any other
value becomes compact JSON.  A missing step or path is null.  A function that gets a type it
cannot take (``length(@)`` of a null) is *not* a missing path: it raises ``ReferenceFailed``, because
a null made of a mistake would reach a mail or an order; ``${a.items || `[]` | length(@)}`` says what to
do instead.

``${credential.name}`` is a secret by its name; it stays as it is written, see sealed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, TypeGuard

from agentsys.agents import sealed
from agentsys.agents.sealed import CREDENTIAL
from agentsys.core.errors import PathFailed, PathInvalid, PayloadTooLarge, ReferenceFailed, ReferenceInvalid
from agentsys.core.path_evaluation import Budget, to_text, weigh
from agentsys.core.paths import QUOTED, Path, compile_path

RESERVED = ("input", "files", "goal", CREDENTIAL)
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?![A-Za-z0-9_])")
#: Nesting of a template, its references' values not included.
MAX_DEPTH = 64
#: Of all references of a plan: one for each, and one more for each 25 characters of it.  A unit costs up to 50 µs.
MAX_WORK = 20_000
#: Size of a rendered template as JSON.
MAX_RENDERED_BYTES = 4_000_000

_FAULT_WORK = 50
_OPEN = re.compile(r"\$\$\{|\$\{")
_INSIDE = re.compile(rf"{QUOTED}|[{{}}'\"`]", re.DOTALL)
_FUNCTION_HINT = "Begin with the step's key and apply the function to it: ${key | length(@)}."


@dataclass(frozen=True)
class Reference:
    """``${name…}`` in a text."""

    name: str
    path: Path | None  #: None: the whole output
    source: str  #: as written, with its braces

    def value(self, values: Mapping[str, Any], budget: Budget) -> Any:
        """
        Raises:
            ReferenceFailed: the expression does not fit the value, or takes too much work.
        """
        if self.name == CREDENTIAL:
            return self.source
        found = values.get(self.name)
        try:
            return found if self.path is None else self.path.search(found, budget=budget)
        except (PathFailed, PayloadTooLarge) as error:
            shown = self.source[:200]
            raise ReferenceFailed(f"{shown}: {error.message}", reference=shown) from error


class Place(NamedTuple):
    """A reference in a template."""

    where: str  #: as in ``arguments.rows[2].name``
    name: str
    root_fields: frozenset[str]  #: see :class:`Path`


@dataclass
class Found:
    """What :func:`inspect` saw, in the order of the template."""

    places: list[Place] = field(default_factory=list)
    faults: list[dict[str, str]] = field(default_factory=list)
    #: What it cost to read, see ``MAX_WORK``.
    work: int = 0


def names(template: Any) -> set[str]:
    """First names of all references of a template, reserved ones too.

    Raises:
        ReferenceInvalid: a reference is not well written.
        PayloadTooLarge: the template is nested deeper than ``MAX_DEPTH``.
    """
    pieces = (piece for _, text in _texts(template, "", 0) for piece in _sound_pieces(text))
    return {piece.name for piece in pieces if isinstance(piece, Reference)}


def credentials(template: Any) -> set[str]:
    """The names of the credentials that a well written template refers to; costs next to nothing without any."""
    texts = (text for _, text in _texts(template, "", 0) if CREDENTIAL in text)
    return sealed.marks([piece.source for text in texts for piece in _pieces(text) if _is_credential(piece)])


def inspect(template: Any, path: str = "", *, max_work: int = MAX_WORK) -> Found:
    """All references and all faults of a template; a fault is ``{path, code, message}``.

    Raises:
        PayloadTooLarge: the template is nested deeper than ``MAX_DEPTH``, or takes more than ``max_work``.
    """
    found = Found()
    for where, text in _texts(template, path, 0):
        for piece in _pieces(text):
            if isinstance(piece, Reference):
                found.work += 1 + len(piece.source) // 25
                fields = piece.path.root_fields if piece.path else frozenset()
                found.places.append(Place(where, piece.name, fields))
            elif isinstance(piece, ReferenceInvalid):
                found.work += _FAULT_WORK
                found.faults.append({"path": where, "code": "reference_syntax", "message": piece.message})
            if found.work > max_work:
                raise PayloadTooLarge("There are too many references; pass whole outputs, not all their parts.")
    return found


def has_reference(template: Any) -> bool:
    """Whether any part of the template is worked out at run time, well written or not."""
    return any(not isinstance(piece, str) for _, text in _texts(template, "", 0) for piece in _pieces(text))


def escape(text: str) -> str:
    """A template that renders to exactly this text."""
    return text.replace("${", "$${")


def render(template: Any, values: Mapping[str, Any], *, max_bytes: int = MAX_RENDERED_BYTES) -> Any:
    """The template with each reference replaced by its value.

    The result shares its parts with ``template`` and ``values``: do not change it.  With a reference to a credential
    it is sealed, see :mod:`agentsys.agents.sealed`.

    Args:
        template: Any JSON; nested at most ``MAX_DEPTH`` deep.
        values: Output by step key, and ``input``, ``files``, ``goal``.  A key that is not there is null.
        max_bytes: Limit of the result as JSON.

    Raises:
        ReferenceInvalid: a reference is not well written (a parsed plan has none such).
        ReferenceFailed: an expression does not fit its value, or takes too much work.
        PayloadTooLarge: the result is over ``max_bytes`` or the template too deep.
    """
    return _Renderer(values, max_bytes, seals=bool(credentials(template))).value(template, 0)


class _Renderer:
    def __init__(self, values: Mapping[str, Any], max_bytes: int, *, seals: bool) -> None:
        self._values, self._max_bytes, self._seals = values, max_bytes, seals
        self._left, self._budget = max_bytes, Budget()

    def value(self, template: Any, depth: int) -> Any:
        if isinstance(template, str):
            return self._text(template)
        if isinstance(template, dict):
            _check_depth(depth)
            return {key: self.value(part, depth + 1) for key, part in template.items()}
        if isinstance(template, list):
            _check_depth(depth)
            return [self.value(part, depth + 1) for part in template]
        return template

    def _text(self, text: str) -> Any:
        if "${" not in text:
            return self._paid(text)
        pieces = list(_sound_pieces(text))
        if len(pieces) == 1 and isinstance(pieces[0], Reference):
            value = self._paid(pieces[0].value(self._values, self._budget))
            return sealed.sealed(value) if self._seals and pieces[0].name != CREDENTIAL else value
        return self._joined(pieces)

    def _joined(self, pieces: "list[str | Reference]") -> str:
        """What lies between credentials is sealed whole: a mark could be put together from several values."""
        if not self._seals:
            return "".join(map(self._as_text, pieces))
        runs = ((is_mark, "".join(map(self._as_text, run))) for is_mark, run in groupby(pieces, _is_credential))
        return "".join(text if is_mark else sealed.sealed(text) for is_mark, text in runs)

    def _as_text(self, piece: "str | Reference") -> str:
        value = piece if isinstance(piece, str) else piece.value(self._values, self._budget)
        self._paid(value)
        return value if isinstance(value, str) else _json(value)

    def _paid(self, value: Any) -> Any:
        try:
            self._left -= weigh(value, limit_bytes=self._left)
        except PayloadTooLarge as error:
            message = f"With its references filled in this is larger than {self._max_bytes:,} bytes; "
            raise PayloadTooLarge(message + "refer to a part of the output.") from error
        return value


def _is_credential(piece: object) -> TypeGuard[Reference]:
    return isinstance(piece, Reference) and piece.name == CREDENTIAL


def _json(value: Any) -> str:
    try:
        return to_text(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ReferenceFailed(f"A value cannot be written as JSON: {type(error).__name__}.") from error


def _texts(template: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every string that may hold a reference, with where it is (``arguments.rows[2].name``)."""
    if isinstance(template, str):
        if "${" in template:
            yield path, template
    elif isinstance(template, dict):
        _check_depth(depth)
        for key, part in template.items():
            yield from _texts(part, join_path(path, key), depth + 1)
    elif isinstance(template, list):
        _check_depth(depth)
        for index, part in enumerate(template):
            yield from _texts(part, f"{path}[{index}]", depth + 1)


def join_path(path: str, key: object) -> str:
    """``path.key``, or ``path["odd key"]`` where the key is no plain name; long keys are cut."""
    if isinstance(key, str) and KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(str(key)[:64])}]"  # ASCII: a path must be printable whatever the key


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise PayloadTooLarge(f"This is nested deeper than {MAX_DEPTH} levels.")


def _sound_pieces(text: str) -> Iterator[str | Reference]:
    for piece in _pieces(text):
        if isinstance(piece, ReferenceInvalid):
            raise piece
        yield piece


def _pieces(text: str) -> Iterator[str | Reference | ReferenceInvalid]:
    """Literal text, references and faults in order; nothing empty.  Linear in the text."""
    at = 0
    while opening := _OPEN.search(text, at):
        if opening.start() > at:
            yield text[at : opening.start()]
        at = opening.end()
        if opening[0] == "$${":
            yield "${"
            continue
        end = _closing(text, at)
        if end is None:
            yield _fault(opening.start(), "is not closed: a } or a quote is missing")
            return
        yield _reference(text[at:end], at - 2)
        at = end + 1
    if at < len(text):
        yield text[at:]


def _closing(text: str, at: int) -> int | None:
    """Where the brace closes that was opened before ``at``; None where it never does."""
    depth = 1
    for token in _INSIDE.finditer(text, at):
        if token[0] in ("'", '"', "`"):  # a quote without its end
            return None
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.start()
    return None


def _reference(body: str, position: int) -> Reference | ReferenceInvalid:
    """The reference with this text between its braces, which open at ``position``."""
    source, inner = f"${{{body}}}", body.strip()
    key = KEY.match(inner)
    if key is None:
        return _fault(position, "must begin with a step's key, as in ${key.path}")
    rest = inner[key.end() :]
    if key[0] == CREDENTIAL:
        named = sealed.PATH.fullmatch(rest)
        return Reference(CREDENTIAL, None, sealed.mark(named[1])) if named else _fault(position, sealed.HINT)
    if not rest:
        return Reference(key[0], None, source)
    if rest.startswith("("):
        return _fault(position, f"is not a path. {_FUNCTION_HINT}")
    try:
        return Reference(key[0], compile_path(f"@{rest}"), source)
    except PathInvalid as error:
        at = position + 1 + len(body) - len(body.lstrip()) + key.end() + error.data.get("position", 0)
        return _fault(at, f"is not valid. {error.message}")


def _fault(position: int, reason: str) -> ReferenceInvalid:
    message = f"The reference at character {position} {reason.rstrip('.')}. Write $${{ for a literal ${{."
    return ReferenceInvalid(message, position=position)
