"""What the end or the stop of a run means to the runs above and below it, told after its commit.

``change`` tells it here; ``children`` and ``families`` do it.  They are built on ``change``, so the package puts them
here; what they could not do, the sweeper does.
"""

from collections.abc import Callable, Sequence
from uuid import UUID


def _later(_id: object) -> Sequence[str]:
    return ()


#: A parent's step (its id) takes over the end of its child run; the lanes to ring.
take_over: Callable[[int], Sequence[str]] = _later
#: The child runs stop for which no step of this run waits any more.
stop_children: Callable[[UUID], object] = _later
