"""A run from its submission to its end, by acts that may each fail and be asked again."""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID, uuid4

from django.db import InterfaceError, OperationalError, connection

from agentsys.agents.models import Agent
from agentsys.core import procs
from agentsys.core.errors import ApprovalDecided, DatabaseUnavailable
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs import approvals, batch, control, leases, services
from agentsys.runs.models import Budget, LaneSlot, Run, Step
from agentsys.runs.store import slots
from agentsys.runs.submission import Submission
from tests.failpoints import tools
from tests.failpoints.points import Points
from tests.failpoints.shapes import ROOM, Shape
from tests.support.rows import sql
from tests.support.worker import Worker

T = TypeVar("T")
ROUNDS = 60
OUTAGE = (OperationalError, InterfaceError, DatabaseUnavailable)


class Play:
    """Everything is in the database but the key: whoever plays on, in whatever process, goes on where it is."""

    def __init__(self, agent: Agent, shape: Shape) -> None:
        self.agent, self.shape, self.key = agent, shape, str(uuid4())
        self.points = Points()
        self.runs: list[Run] = []

    @property
    def run(self) -> Run:
        """The one that people look at."""
        return self.runs[-1]

    def go(self, points: Points) -> None:
        """Until all runs have ended."""
        self.points = points
        limit_slots(self.agent, self.shape)
        tools.meanwhile[:] = [lambda: self._asked(self.shape.meanwhile)]
        with points.watched():
            self.runs = self._asked(submit)
            self._asked(self.shape.first)
            if tools.called(self.run.pk):  # by a process that ended before anybody could interfere
                self._asked(self.shape.meanwhile)
            for _ in range(ROUNDS):
                if self._round():
                    return
        raise AssertionError(f"not ended after {ROUNDS} rounds: {self.run.status} {self.run.reason}")

    def _round(self) -> bool:
        self._work()
        if self._ended():
            self._asked(self.shape.ended)
            return self._ended()
        with self.points.looking():
            due = self._asked(time_passes)
        if due:
            Sweeper(_contact_since=-math.inf).tick()
        self._asked(decide)
        return False

    def _work(self) -> None:
        """Whatever is ready is done, by a worker who is new each time."""
        for _ in range(ROUNDS):
            with self.points.looking():
                ready = self._asked(
                    lambda _: Step.objects.filter(status="ready").values_list("lane", flat=True).first()
                )
            if ready is None:
                return
            try:
                Worker(procs.own_name()).drain(ready)
            except OUTAGE:  # a task that fails: the next bell starts another
                connection.close()

    def _ended(self) -> bool:
        with self.points.looking():
            return not self._asked(lambda _: Run.objects.filter(pk__in=self.ids(), finished_at=None).exists())

    def ids(self) -> set[UUID]:
        return {run.pk for run in self.runs}

    def _asked(self, act: Callable[["Play"], T]) -> T:
        """As a client does that got no answer."""
        for _ in range(3):
            try:
                return act(self)
            except OUTAGE:
                connection.close()
        return act(self)


def limit_slots(agent: Agent, shape: Shape) -> None:
    if shape.slots is not None:
        slots.set_limit(agent.workspace_id, "compute", lim=shape.slots, weight=None)


def submit(play: Play) -> list[Run]:
    shape, agent = play.shape, play.agent
    plan = {"steps": list(shape.steps)} if shape.steps else None
    request = Submission(
        agent=agent.slug, plan=plan, goal=shape.goal or play.key, limits=shape.limits, model=shape.model
    )
    if shape.runs > 1:
        requests = [request] * shape.runs
        return batch.submit_all(
            workspace_id=agent.workspace_id, user=None, requests=requests, idempotency_key=play.key
        )[0]
    return [services.submit(workspace_id=agent.workspace_id, user=None, request=request, idempotency_key=play.key)[0]]


def decide(play: Play) -> None:
    """Whoever is asked decides; whoever finds that it was decided is content."""
    with play.points.looking():
        run = Run.objects.get(pk=play.run.pk)
        approvals_ = [approvals.get(one.workspace_id, one.pk) for one in run.approvals.filter(decision="")]
        unknown = list(run.steps.filter(status="waiting", reason="outcome_unknown"))
    for approval in approvals_:
        with suppress(ApprovalDecided):
            if approval.kind == "input":
                approvals.answer(approval, user=None, answer="this")
            else:
                approvals.approve(approval, user=None, digest=approval.digest)
    for step in unknown:
        _resolve(run, step)
    if run.status == "paused":
        control.resume(run)
    if (run.status, run.reason) == ("waiting", "budget"):
        control.resume(run, limits={"tokens": ROOM["tokens"]})


def _resolve(run: Run, step: Step) -> None:
    """By what the witness says: the call happened, or it did not."""
    what = step.tool.removeprefix("witnessed.")
    if tools.witnessed(f"{what} {run.pk}:{step.key}"):
        said = {"charge": "charged", "wire": "bob", "transfer": "transferred"}[what]
        services.resolve(run, step.key, outcome="done", result=said)
    else:
        services.resolve(run, step.key, outcome="not_done")


def time_passes(_play: Play) -> bool:
    """The leases of those who hold any run out, and what sleeps is due; whether a sweeper has something to do."""
    moved = sql("UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE status = 'running'")
    moved += sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")
    queued = Step.objects.filter(status="queued").exists()  # whoever was to admit it met the fault
    return moved > 0 or queued or Step.objects.filter(status="waiting", reason="child").exists()


def check(play: Play) -> None:
    """It ended as it must; every result is there once; no call was made twice; nothing is held."""
    shape = play.shape
    for run in Run.objects.filter(pk__in=play.ids()) if shape.runs > 1 else [play.run]:
        run.refresh_from_db()
        assert run.status == shape.status, (run.reason, run.error)
        assert shape.result is None or run.result == shape.result, run.result
        assert not run.steps.exclude(lease_expires_at=None).exists()
        assert not Budget.objects.filter(run=run, reserved__gt=0).exists()
        results = Counter(run.events.filter(type="step.succeeded").values_list("step", flat=True))
        assert set(results.values()) <= {1}, results
    calls = Counter(line for line in tools.lines() if not line.startswith("second"))
    assert set(calls.values()) <= {1}, "a call was repeated"
    assert not LaneSlot.objects.exclude(used=0).exists()
    assert leases.held() == []
