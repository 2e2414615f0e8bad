"""What a credential is made of, checked before it becomes one.  No message repeats what was given."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentsys.core.faults import Fault, fault

#: As a reference's path takes it: ``${credential.name}``.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: A shorter one cannot be masked without masking what is none.
LEAST_CHARS, MAX_CHARS = 8, 20_000
MAX_ENTRIES = 100
_TOOL = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,99}")
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,50}")
_HOST = re.compile(r"(?P<host>[a-z0-9_](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
#: In a text that is kept in the clear: the place of a secret.
_MARK = re.compile(r"\$\{credential\.([A-Za-z_][A-Za-z0-9_]{0,63})\}")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Where a secret may go."""

    tools: Sequence[str] = ()
    agents: Sequence[str] = ()
    hosts: Sequence[str] = ()

    def faults(self) -> Iterator[Fault]:
        yield from _entries("tools", self.tools, _TOOL.fullmatch, "the name of a tool, such as http.get")
        yield from _entries("agents", self.agents, _SLUG.fullmatch, "the slug of an agent")
        yield from _entries("hosts", self.hosts, _is_host, "api.example.com (by https), or api.example.com:8443")


def name_faults(name: Any) -> Iterator[Fault]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield fault("name", "bad_value", "A name is letters, digits and _, not a digit first, at most 64.")


def secret_faults(secret: Any) -> Iterator[Fault]:
    if not isinstance(secret, str):
        yield fault("secret", "type", "The secret must be a text.")
    elif len(secret.strip()) < LEAST_CHARS:
        yield fault("secret", "too_short", f"A secret has at least {LEAST_CHARS} characters, else nothing can hide it.")
    elif len(secret) > MAX_CHARS:
        yield fault("secret", "too_long", f"A secret has at most {MAX_CHARS:,} characters.")
    elif "\0" in secret or not _is_unicode(secret):
        yield fault("secret", "bad_value", "A secret has no NUL and no half of a surrogate pair.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and 0 < int(found["port"] or 443) < 65_536


def _entries(path: str, given: Any, is_good: Any, what: str) -> Iterator[Fault]:
    if not isinstance(given, list | tuple) or not all(isinstance(entry, str) for entry in given):
        yield fault(path, "type", f"{path} must be a list of texts.")
        return
    if len(given) > MAX_ENTRIES:
        yield fault(path, "too_long", f"At most {MAX_ENTRIES} of them.")
        return
    for number, entry in enumerate(given):
        if not is_good(entry):
            yield fault(f"{path}[{number}]", "bad_value", f"Must be {what}.")


def may_go_to(hosts: Sequence[str], origin: tuple[str, str, int]) -> bool:
    """Whether a secret for these hosts may go to an address of this scheme, host and port."""
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" in hosts or (host in hosts and (scheme, port) == ("https", 443))


def as_terms(given: Mapping[str, Any]) -> Terms:
    """Of a body's lists: without doubles, hosts in lower case."""
    lists = {name: given.get(name) or [] for name in ("tools", "agents", "hosts")}
    lists = {name: list(dict.fromkeys(v)) if _hashable(v) else v for name, v in lists.items()}
    if _hashable(lists["hosts"]):
        lists["hosts"] = [host.lower() for host in lists["hosts"]]
    return Terms(**lists)


def _hashable(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)


def named_in(text: str) -> set[str]:
    """The credentials whose places are in a text: ``Bearer ${credential.name}``."""
    return set(_MARK.findall(text))


def filled(text: str, secret: Callable[[str], str]) -> str:
    """The text with its secrets."""
    return _MARK.sub(lambda found: secret(found[1]), text)
