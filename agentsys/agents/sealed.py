"""Credentials in arguments: ``${credential.name}`` stays as it is written until the call is made.

Rendered arguments of a template with such references are *sealed*: a mark ``${credential.name}`` in them is one, and
what the values of other references bring that looks like one has a ``$`` more.  So nothing that a page, a tool or a
model has said can become a secret, however it gets into the arguments; and what a person is shown, what a decision is
bound to and what is stored has marks, never secrets.
"""

import re
from collections.abc import Mapping
from typing import Any

from agentsys.core.errors import PayloadTooLarge

#: The first name of a reference to a credential.
CREDENTIAL = "credential"
#: What follows it.
PATH = re.compile(r"\s*\.\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*")
HINT = "must be ${credential.name}: nothing can be worked out of a secret"
_MARK = re.compile(r"(\$+)(\{credential\.([A-Za-z_][A-Za-z0-9_]{0,63})\})")
#: Of the arguments of a call, with its secrets.
MAX_FILLED_CHARS = 4_000_000


def mark(name: str) -> str:
    """What stands for a credential."""
    return f"${{{CREDENTIAL}.{name}}}"


def sealed(value: Any) -> Any:
    """A value from elsewhere, without a mark in it."""
    return _mapped(value, lambda found: f"${found[0]}")


def has_mark(value: Any) -> bool:
    """Whether a sealed value has a credential in it."""
    return bool(marks(value))


def marks(value: Any) -> set[str]:
    """The names of the credentials in a sealed value."""
    names: set[str] = set()

    def note(found: re.Match[str]) -> str:
        if found[1] == "$":
            names.add(found[3])
        return found[0]

    _mapped(value, note)
    return names


def filled(value: Any, secrets: Mapping[str, str]) -> Any:
    """A sealed value with its secrets, as the tool gets it.

    Raises:
        PayloadTooLarge: with them it is larger than arguments may be.
    """
    left = MAX_FILLED_CHARS

    def fill(found: re.Match[str]) -> str:
        nonlocal left
        text = secrets[found[3]] if found[1] == "$" else found[0][1:]
        left -= len(text)
        if left < 0:
            raise PayloadTooLarge(f"The arguments are larger than {MAX_FILLED_CHARS:,} characters.")
        return text

    return _mapped(value, fill)


def template(text: str, escape: Any) -> str:
    """A template that renders to exactly this sealed text; ``escape`` makes one of plain text."""
    made, at = "", 0
    for found in _MARK.finditer(text):
        if found[1] == "$":
            made += escape(_opened(text[at : found.start()])) + found[0]
            at = found.end()
    return made + escape(_opened(text[at:]))


def _opened(text: str) -> str:
    """Sealed text without marks, as it was."""
    return _MARK.sub(lambda found: found[0][1:], text)


def _mapped(value: Any, replace: Any) -> Any:
    """A copy with each mark, or what looks like one, replaced; keys of objects hold none."""
    if isinstance(value, str):
        return _MARK.sub(replace, value) if "{credential." in value else value
    if isinstance(value, list):
        return [_mapped(part, replace) for part in value]
    if isinstance(value, Mapping):
        return {name: _mapped(part, replace) for name, part in value.items()}
    return value
