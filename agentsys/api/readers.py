"""Whether those who read for long may still read: one query for all of them, asked again every few seconds."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection
from rest_framework.request import Request

from agentsys.api import auth, tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reader:
    """A session, and the workspace it was let into; the same for all requests that send the same."""

    token: bytes
    workspace: str
    claims: Mapping[str, Any] = field(compare=False)

    @classmethod
    def of(cls, request: Request) -> "Reader":
        """The reader of a request that was let in.  Costs no query."""
        token = auth.bearer(request) or b""
        return cls(token, request.headers.get(auth.WORKSPACE_HEADER, ""), tokens.claims_of(token))


class Readers:
    """Those who read here now, by any number of streams each; safe between threads."""

    def __init__(self, action: str) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._reading: Counter[Reader] = Counter()
        self._refused: set[Reader] = set()
        self._asked_at = 0.0

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """While it lasts the reader, who was let in just now, is among those asked about."""
        with self._lock:
            self._reading[reader] += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading[reader] -= 1
                if not self._reading[reader]:
                    del self._reading[reader]
                    self._refused.discard(reader)

    async def may_read(self, reader: Reader, *, max_age_s: float) -> bool:
        """The answer of a question at most ``max_age_s`` old; while PostgreSQL is away, the last one."""
        if self._is_older(max_age_s):
            await sync_to_async(self._ask, thread_sensitive=False)(max_age_s)
        return reader not in self._refused

    def _is_older(self, max_age_s: float) -> bool:
        return time.monotonic() >= self._asked_at + max_age_s

    def _ask(self, max_age_s: float) -> None:
        with self._lock:
            if not self._is_older(max_age_s):
                return  # another stream has just asked
            self._asked_at = time.monotonic()
            readers = list(self._reading)
        try:
            allowed = auth.who_may(self._action, [(one.claims, one.workspace) for one in readers])
        except Error as error:  # there is nothing to read then, either
            logger.warning("whether streams may go on was not asked: %s", str(error).strip())
            return
        finally:
            connection.close()
        with self._lock:
            refused = {one for one, may in zip(readers, allowed, strict=True) if not may}
            self._refused = refused & self._reading.keys()
