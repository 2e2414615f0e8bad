"""Wrong passwords are counted, so that guessing is slow.

Counted for a name from an address, and for an address over all names, in the process's cache: a
second web process doubles what a guesser gets, which is still nothing against a good password.
Success counts nothing, so a busy honest client is never slowed down.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from django.core.cache import cache
from rest_framework.exceptions import Throttled

WINDOW_S = 300
PER_NAME = 10
PER_ADDRESS = 100


@dataclass(frozen=True, slots=True)
class Attempts:
    """The failures of one name from one address, and of the address."""

    limits: dict[str, int]

    def check(self) -> None:
        """
        Raises:
            Throttled: too many wrong passwords within the last five minutes.
        """
        counts = cache.get_many(self.limits)
        if any(counts.get(key, 0) >= limit for key, limit in self.limits.items()):
            raise Throttled(wait=WINDOW_S, detail="Too many wrong passwords; wait some minutes.")

    def failed(self) -> None:
        """Count one more."""
        for key in self.limits:
            cache.add(key, 0, WINDOW_S)
            with suppress(ValueError):  # the window ended this very moment
                cache.incr(key)


def of(username: str, address: str) -> Attempts:
    """The count that an attempt belongs to."""
    name = hashlib.sha256(f"{address}\n{username.lower()}".encode()).hexdigest()
    return Attempts({f"log-in:{name}": PER_NAME, f"log-in-from:{address}": PER_ADDRESS})
