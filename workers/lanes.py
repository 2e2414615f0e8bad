"""Which task and which kind of pool serves a lane."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class LanePlan:
    """How a lane is served.  ``slots`` is the default concurrency of one worker."""

    task: str
    pool: str
    slots: int

    @property
    def bells(self) -> int:
        """Bells worth keeping in the queue: more of them would only find nothing due."""
        return 4 * self.slots


LANES: dict[str, LanePlan] = {
    "model": LanePlan(task="plan", pool="threads", slots=8),
    "network": LanePlan(task="execute", pool="threads", slots=16),
    "compute": LanePlan(task="execute", pool="prefork", slots=max(2, os.cpu_count() or 2)),
    "system": LanePlan(task="system", pool="threads", slots=4),
}
