"""Idempotency keys of what is no run: the same key and request make a thing once, and give it again.

A key is a workspace's and belongs to one request, whatever that makes.  Runs keep theirs in their own rows, so that a
submission stays one statement; whoever takes a key here asks them, and they ask here.  Keys go by age, as those of
runs do, see ``runs.retention``.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from agentsys.accounts.models import RequestKey
from agentsys.core.errors import IdempotencyKeyReused, InvalidInput

MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a client sent it, and ``digest``: the SHA-256 of what it was sent with."""

    workspace_id: UUID
    value: str
    digest: str

    @classmethod
    def of(cls, workspace_id: UUID, value: str, *request: Any) -> "Key | None":
        """None without a key.

        Args:
            request: All that the answer depends on, as JSON has it or as a text.

        Raises:
            InvalidInput: no Idempotency-Key looks like this.
        """
        check(value)
        told = json.dumps(request, sort_keys=True, default=str)
        return cls(workspace_id, value, hashlib.sha256(told.encode()).hexdigest()) if value else None


def check(value: str) -> None:
    """
    Raises:
        InvalidInput: no Idempotency-Key looks like this.
    """
    if len(value) > MAX_CHARS or not value.isprintable():
        raise InvalidInput(f"An Idempotency-Key has at most {MAX_CHARS} visible characters.")


def is_taken(workspace_id: UUID, value: str) -> bool:
    """Whether something has been made here under this key.  One query."""
    return RequestKey.objects.filter(workspace_id=workspace_id, key=value).exists()


def made_before(key: Key | None) -> str | None:
    """What the same request has made under this key; None: nothing yet.  One query.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.
    """
    if key is None:
        return None
    row = RequestKey.objects.filter(workspace_id=key.workspace_id, key=key.value).first()
    if row is not None and row.digest != key.digest:
        raise IdempotencyKeyReused
    return row.made if row is not None else None


def take(key: Key) -> str | None:
    """Take a key in an open transaction; who comes at the same moment with the same one waits for its end.

    Returns:
        What :func:`made` has said of it, if the same request had it before.

    Raises:
        IdempotencyKeyReused: it belongs to another request.
    """
    row, new = RequestKey.objects.get_or_create(
        workspace_id=key.workspace_id, key=key.value, defaults={"digest": key.digest}
    )
    if row.digest != key.digest:
        raise IdempotencyKeyReused
    return None if new else row.made


def made(key: Key, what: Any) -> None:
    """Say what was made under a key that was just taken: an id."""
    RequestKey.objects.filter(workspace_id=key.workspace_id, key=key.value).update(made=str(what))


def once(key: Key | None, make: Callable[[], Any]) -> tuple[str, bool]:
    """Make something, or find what the same key and request have made; in one transaction.

    Args:
        make: Gives the id of what it makes.

    Returns:
        The id, and whether it was there before.

    Raises:
        IdempotencyKeyReused: the key belongs to another request; nothing was made.
    """
    with transaction.atomic():
        if key is None:
            return str(make()), False
        if (before := take(key)) is not None:
            return before, True
        what = make()
        made(key, what)
    return str(what), False
