"""A worker without processes: claims and executes in the calling thread, on the real database."""

from collections.abc import Sequence
from typing import Any

from agentsys.runs import engine
from agentsys.runs.attempts import AttemptInfo
from agentsys.runs.models import Run
from agentsys.runs.states import Lane
from agentsys.runs.store import sweeps


def silent(lanes: Sequence[str]) -> None:
    """A dispatcher that nobody hears."""


class Watcher:
    """Keeps what an observer is told."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str, bool]] = []

    def started(self, attempt: AttemptInfo) -> None:
        pass

    def ended(self, attempt: AttemptInfo, *, ok: bool, result: str, runtime_s: float) -> None:
        self.attempts.append((attempt.task, attempt.step, ok))


class Worker:
    def __init__(self, name: str) -> None:
        self.name = name
        self.watcher = Watcher()

    def drain(self, lane: str) -> int:
        return engine.drain(lane, owner=self.name, observer=self.watcher, slice_s=60)

    def work(self, *, sleepers: bool = False) -> int:
        """Do all that is due in all lanes, until nothing is; with ``sleepers``, what becomes due or was left
        queued, too."""
        done = 0
        while True:
            if sleepers:
                sweeps.wake_sleepers()
                sweeps.admit()
            now = sum(self.drain(lane) for lane in Lane)
            done += now
            if not now:
                return done

    def finish(self, run: Run, *, tries: int = 2000) -> Run:
        """Work until the run has ended; time is waited for, in the database."""
        for _ in range(tries):
            self.work(sleepers=True)
            run.refresh_from_db()
            if run.finished_at:
                return run
        raise AssertionError(f"{run.status} {run.reason} after {tries} rounds")


def statuses(run: Run) -> dict[str, Any]:
    """Step status by key."""
    return dict(run.steps.values_list("key", "status"))


def events(run: Run) -> list[str]:
    """The run's events as ``type`` or ``type key``, in order."""
    return [f"{e.type} {e.step}".strip() for e in run.events.order_by("seq")]
