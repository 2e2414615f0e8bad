"""Plays the scenes: submits all, follows their steps until each run has ended."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentsys.infrastructure.demo.client import TERMINAL, Client
from agentsys.infrastructure.demo.scenes import Scene

ASK_EVERY_S = 0.25
PLAY_S = 90.0


@dataclass
class Act:
    """A scene and where its run stands."""

    scene: Scene
    run: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.run.get("status") in TERMINAL

    @property
    def well(self) -> bool:
        return self.run.get("status") == "succeeded"


def play(client: Client, acts: list[Act], *, show: Callable[[], None], go_on: Callable[[], bool]) -> bool:
    """Submit every scene at once and follow all to their end.  Returns whether all succeeded.

    Args:
        show: called whenever an act may have changed.
        go_on: says when to give up, because somebody asked for a stop.

    Raises:
        RestFailed: the API refused a call.
    """
    for act in acts:
        act.run = client.submit(act.scene.body, key=uuid.uuid4().hex)
    deadline = time.monotonic() + PLAY_S
    while go_on() and time.monotonic() < deadline:
        for act in acts:
            if not act.over:
                act.run = client.run(act.run["id"])
                act.steps = client.steps(act.run["id"])
        show()
        if all(act.over for act in acts):
            break
        time.sleep(ASK_EVERY_S)
    return all(act.well for act in acts)
