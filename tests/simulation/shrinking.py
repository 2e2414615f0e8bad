"""The least part of a history with which it still fails."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def least(actions: Sequence[T], fails: Callable[[Sequence[T]], bool], *, within_s: float) -> list[T]:
    """Leave out ever smaller pieces of ``actions`` for as long as it fails without them.

    What comes back fails; where there was time enough, it does not with any one action less.
    """
    end = time.monotonic() + within_s
    left, size = list(actions), len(actions)
    while size and time.monotonic() < end:
        without = _one_less(left, fails, size, end)
        if without is None:
            size //= 2
        else:
            left, size = without, min(size, len(without))
    return left


def _one_less(left: list[T], fails: Callable[[Sequence[T]], bool], size: int, end: float) -> list[T] | None:
    """Without one piece of this size, the last that can be missed; None: each is needed."""
    for start in reversed(range(0, len(left), size)):  # what came after the failure goes first
        without = left[:start] + left[start + size :]
        if time.monotonic() >= end:
            return None
        if fails(without):
            return without
    return None
