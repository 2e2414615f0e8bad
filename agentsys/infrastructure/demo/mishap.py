"""The demo's accident: a worker is killed while a run moves, and the run goes on as if nothing had happened."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from agentsys.infrastructure.demo.client import Client
from agentsys.infrastructure.demo.play import Act

#: Says the name and the pid of whom it killed, with SIGKILL; None: there was nobody.
Kill = Callable[[], tuple[str, int] | None]


class Mishap:
    """One kill during ``act``, told when it happens and once the step has run again.

    Args:
        kill: kills the worker of the lane that the act's steps are of.
        say: called with a line for people.
    """

    def __init__(self, client: Client, act: Act, kill: Kill, say: Callable[[str], None]) -> None:
        self._client, self._act, self._kill, self._say = client, act, kill, say
        self._step: dict[str, Any] = {}
        self._killed_at = 0.0
        self.survived = False

    def look(self) -> None:
        """To be called whenever the act may have moved."""
        if not self._step:
            self._strike()
        elif not self.survived:
            self._recover()

    def _strike(self) -> None:
        """Not at the first step: that something was done already, and stays done, is the point."""
        done = any(step["status"] == "succeeded" for step in self._act.steps)
        under_way = [step for step in self._act.steps if step["status"] == "running"]
        if not (done and under_way):
            return
        self._killed_at = time.time()
        if (victim := self._kill()) is not None:
            self._step = under_way[0]
            name, pid = victim
            self._say(f"⚡ {name} (process {pid}) was killed with SIGKILL while it ran step {self._step['key']!r}")

    def _recover(self) -> None:
        for event in self._client.events(self._act.run["id"]):
            if event["type"] == "step.started" and event["step"] == self._step["key"]:
                attempt = event["data"]["attempt"]
                if attempt > self._step["attempt"]:
                    self.survived = True
                    self._tell(attempt, datetime.fromisoformat(event["at"]).timestamp() - self._killed_at)
                    return

    def _tell(self, attempt: int, took_s: float) -> None:
        self._say(
            f"⚡ step {self._step['key']!r} ran again {took_s:.1f} s later, as attempt {attempt}; "
            "what was done before was not done again"
        )
