"""The engine's own functions, driven by a seeded scheduler over the real PostgreSQL.

Everything that can happen is an action: people submit, cancel, pause, decide; workers claim, begin, record, die,
freeze and come back; sweepers sweep; clocks jump; connections die.  A seed draws the actions: it is a whole history.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection

from agentsys.accounts.models import Workspace
from agentsys.core.errors import (
    AgentSysError,
    ApprovalExpired,
    InvalidTransition,
    LeaseLost,
    ToolFailed,
    ToolRateLimited,
    ToolUnavailable,
)
from agentsys.runs import approvals, budgets, control, services
from agentsys.runs.models import Approval, Run, Step
from agentsys.runs.states import Lane
from agentsys.runs.store import moves, parallel, slots, sweeps
from agentsys.runs.submission import Submission
from tests.simulation import plans
from tests.simulation.faults import Faults
from tests.simulation.workers import Worker
from tests.support.rows import sql

MAX_RUNS = 5
Seen = Counter[str]
#: One of a history: its number, from which it draws whatever it needs, and its name.
Action = tuple[int, str]


def drawn(seed: int, count: int) -> list[Action]:
    """The actions of a history.  Any of them may be left out: the others do what they would have done, as far as
    what they meet is the same."""
    names, weights = zip(*_WEIGHTS.items(), strict=True)
    return list(enumerate(Random(seed).choices(names, weights=weights, k=count)))


class World:
    """One history.  ``calls`` is the witness: how often each unsafe call was really made, by its key."""

    def __init__(self, seed: int, workspace: Workspace, agent: str, seen: Seen) -> None:
        self.seed, self.rng, self.seen, self.agent, self.workspace = seed, Random(seed), seen, agent, workspace
        self.faults = Faults(seen)
        self.runs: list[Run] = []
        self.calls: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.trace: list[str] = []
        self.workers = [Worker(f"w{n}", self) for n in range(3)]
        self.decided: list[Approval] = []
        self.dies_early = False

    def play(self, actions: Sequence[Action]) -> None:
        """Do them, one after the other."""
        chance = self.rng.choice((0.0, 0.0, 0.02))
        for n, name in actions:
            self.rng = Random(f"{self.seed}.{n}")
            with self.faults.by_chance(chance, Random(f"{self.seed}.{n} faults")):
                self.do(name)

    def do(self, name: str) -> None:
        self.trace.append(name)
        try:
            getattr(self, name)()
        except OperationalError:  # whoever asked sees an error, and may ask again
            connection.close()
        except AgentSysError as error:
            self.trace.append(f"  refused: {error.code}")
            self.seen[f"refused: {error.code}"] += 1

    # --- People ---------------------------------------------------------------------------
    def submit(self) -> None:
        if len(self.runs) < MAX_RUNS:
            plan, priority = plans.draw(self.rng), self.rng.randint(-10, 10)
            limits = plans.limits(self.rng, len(plan["steps"]))
            request = Submission(agent=self.agent, goal="do", plan=plan, priority=priority, limits=limits)
            key = f"run-{len(self.runs)}"
            for _ in range(2):  # a client that saw an error asks again, with its key
                with suppress(OperationalError):
                    run, _ = services.submit(
                        workspace_id=self.workspace.pk, user=None, request=request, idempotency_key=key
                    )
                    self.runs.append(run)
                    return
                connection.close()

    def cancel(self) -> None:
        self._on_run(services.cancel)

    def pause(self) -> None:
        self._on_run(control.pause)

    def resume(self) -> None:
        self._on_run(control.resume)

    def replan(self) -> None:
        """Somebody wants another plan, and now and then is never content."""
        if not self.runs:
            return
        run, worker = self.rng.choice(self.runs), self._worker()
        control.message(run, "Otherwise.", replan=True)
        for _ in range(self.rng.choice((0, 0, 0, 6))):
            worker.claim(Lane.MODEL, 1)
            worker.begin()
            worker.plan()
            control.message(run, "Otherwise.", replan=True)

    def raise_limits(self) -> None:
        """Of a run, whether it waits for that or not."""
        if self.runs:
            run = Run.objects.get(pk=self.rng.choice(self.runs).pk)
            control.resume(run, limits=_raised(run.limits, 2))
            self.seen["raised"] += 1

    def cap(self) -> None:
        """A run's cap on its parallel steps is changed while they move, if it has one."""
        if self.runs:
            control.resume(self.rng.choice(self.runs), limits={"parallel": self.rng.randint(1, 3)})
            self.seen["cap changed"] += 1

    def limit_lane(self) -> None:
        """An admin changes how many steps may be under way."""
        lane = self.rng.choice((Lane.COMPUTE, Lane.COMPUTE, Lane.MODEL))
        slots.set_limit(self.workspace.pk, lane, lim=self.rng.choice((1, 2, 3, 20)), weight=None)
        self.seen["limit changed"] += 1

    def limit_workspace(self) -> None:
        tokens = self.rng.choice((None, 300, 1_000, 5_000))
        budgets.set_limits(self.workspace.pk, None, {"tokens": tokens})

    def retry(self) -> None:
        if self.runs and len(self.runs) < MAX_RUNS:
            made, _ = control.retry(self.rng.choice(self.runs))
            self.runs.append(made)

    def _on_run(self, use_case: Callable[[Run], Any]) -> None:
        if self.runs:
            use_case(self.rng.choice(self.runs))

    def decide(self) -> None:
        """Somebody decides what is open, or what was when the page was loaded."""
        known = [*Approval.objects.filter(decision="").order_by("created_at", "id"), *self.decided]
        if not known:
            return
        chosen = self.rng.choice(known)
        late = bool(Approval.objects.get(pk=chosen.pk).decision)
        try:
            self._decide(approvals.get(self.workspace.pk, chosen.pk) if not late else chosen)
        except AgentSysError:
            self.seen["late decision"] += late
            raise
        assert not late, "a second decision was taken"
        self.decided.append(chosen)

    def _decide(self, approval: Approval) -> None:
        if approval.kind == "input":
            approvals.answer(approval, user=None, answer="this one")
        elif self.rng.random() < 0.7:
            approvals.approve(approval, user=None)
        else:
            approvals.deny(approval, user=None, reason="no")

    def resolve(self) -> None:
        """Somebody says what became of a call whose end nobody saw."""
        waiting = list(Step.objects.filter(status="waiting", reason="outcome_unknown").order_by("id"))
        if waiting:
            step = self.rng.choice(waiting)
            outcome = self.rng.choice(("done", "not_done", "failed"))
            run = Run.objects.get(pk=step.run_id)
            self.again[step.idempotency_key] += outcome == "not_done"  # it may have been heard although we saw an error
            services.resolve(run, step.key, outcome=outcome, result="said")
            self.seen["resolved"] += 1

    # --- Workers --------------------------------------------------------------------------
    def claim(self) -> None:
        self._worker().claim(
            self.rng.choice((Lane.COMPUTE, Lane.COMPUTE, Lane.SYSTEM, Lane.MODEL)), self.rng.choice((1, 2, 8))
        )

    def begin(self) -> None:
        self._worker().begin()

    def end(self) -> None:
        self._worker().end()

    def plan(self) -> None:
        self._worker().plan()

    def record(self) -> None:
        self._worker().record()

    def record_again(self) -> None:
        self._worker().record_again()

    def record_and_end(self) -> None:
        """A worker ends between its commit and what comes after: places and slots that it has freed are nobody's."""
        worker = self._worker()
        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((parallel, "fit_all"), (slots, "admit_all")):
                patch.setattr(module, name, lambda _some: [])
            worker.record(go_on=0)
        worker.crash()

    def release(self) -> None:
        self._worker().release()

    def crash(self) -> None:
        self._worker().crash()

    def bad_step(self) -> None:
        """A step ends whoever takes it, one after the other."""
        for worker in self.workers:
            worker.release()
            worker.claim(Lane.COMPUTE, 1)
            worker.crash()
            sweeps.reap_expired()

    def freeze(self) -> None:
        self._worker().expire()
        self.seen["frozen"] += 1

    def zombie(self) -> None:
        """A worker freezes with a result in its hands, and wakes when its steps are another's."""
        worker = self._worker()
        worker.claim(Lane.COMPUTE, 1)
        for move in (worker.begin, worker.end, worker.expire, sweeps.reap_expired, self.claim, worker.record):
            move()

    def beat(self) -> None:
        self._worker().beat()

    def _worker(self) -> Worker:
        return self.rng.choice(self.workers)

    # --- Time -----------------------------------------------------------------------------
    def reap(self) -> None:
        before = Step.objects.filter(status="running").count()
        sweeps.reap_expired()
        self.seen["reaped"] += before > Step.objects.filter(status="running").count()

    def wake(self) -> None:
        sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")
        sweeps.wake_sleepers()
        sweeps.mind_budgets()
        self.admit()
        self.seen["lost bell"] += bool(sweeps.due_lanes(older_than_s=0))

    def watch_admissions(self, patch: pytest.MonkeyPatch) -> None:
        """Count those that follow from a step that was queued, or from a slot that was given back."""
        real = slots.admit

        def admit(workspace_id: UUID, lane: str) -> int:
            moved = real(workspace_id, lane)
            self.seen["admitted"] += bool(moved)
            return moved

        patch.setattr(slots, "admit", admit)

    def watch_places(self, patch: pytest.MonkeyPatch) -> None:
        """Let those die who :meth:`die_early`."""
        real = parallel.fit_all
        patch.setattr(parallel, "fit_all", lambda run_ids: [] if self.dies_early else real(run_ids))

    def die_early(self) -> None:
        """From now on whoever frees a place among a run's parallel steps dies after the commit, before it is given on;
        until the sweeper comes by."""
        self.dies_early = True

    def admit(self) -> None:
        """The sweeper's look at what is queued while a slot is free."""
        self.dies_early = False
        before = self.seen["admitted"]
        held = Step.objects.filter(held="parallel")
        capped = held.count()
        sweeps.fit()
        self.seen["capped"] += bool(capped)
        self.seen["placed by the sweeper"] += held.count() < capped
        self.seen["admitted by the sweeper"] += bool(sweeps.admit())
        self.seen["admitted"] = before

    def expire_questions(self) -> None:
        """The time of some is over.  A question and its step keep the same time."""
        for approval in Approval.objects.filter(decision="").order_by("created_at", "id"):
            if self.rng.random() < 0.3:
                sql(
                    "WITH a AS (UPDATE runs_approval SET expires_at = clock_timestamp() WHERE id = %s RETURNING *)"
                    " UPDATE runs_step s SET available_at = a.expires_at FROM a WHERE s.id = a.step_id",
                    approval.pk,
                )
        sweeps.expire_questions()

    def clock_jumps(self) -> None:
        """A day passes for every lease at once; now and then for timers and questions, too."""
        sql("UPDATE runs_step SET lease_expires_at = lease_expires_at - interval '1 day' WHERE status = 'running'")
        self.seen["clock jumped"] += 1
        if self.rng.random() < 0.3:
            sql("UPDATE runs_step SET available_at = available_at - interval '1 day' WHERE status = 'sleeping'")
            sql(
                "WITH a AS (UPDATE runs_approval SET expires_at = expires_at - interval '1 day' WHERE decision = ''"
                " RETURNING *) UPDATE runs_step s SET available_at = a.expires_at FROM a WHERE s.id = a.step_id"
            )

    def clock_jumps_back(self) -> None:
        """PostgreSQL's clock was a day ahead and is put right: what was due, or to be taken, is far off again."""
        if self.rng.random() < 0.7:  # what it leaves takes long to be found
            return
        sql("UPDATE runs_step SET lease_expires_at = lease_expires_at + interval '1 day' WHERE status = 'running'")
        sql("UPDATE runs_step SET available_at = available_at + interval '1 day' WHERE status = 'sleeping'")
        self.seen["clock jumped back"] += 1

    def time_up(self) -> None:
        """The time of a run is used up, if it has a limit and has started."""
        if self.runs:
            sql(
                "UPDATE runs_run SET started_at = started_at - interval '1 hour',"
                " time_up_at = time_up_at - interval '1 hour' WHERE id = %s AND finished_at IS NULL",
                self.rng.choice(self.runs).pk,
            )
            sweeps.mind_budgets()
            self.seen["held"] += Run.objects.exclude(held_at=None).exists()

    def deadline(self) -> None:
        if self.runs and self.rng.random() < 0.3:
            sql(
                "UPDATE runs_run SET deadline_at = clock_timestamp() WHERE id = %s AND finished_at IS NULL",
                self.rng.choice(self.runs).pk,
            )
            sweeps.end_past_deadline()

    def repair(self) -> None:
        assert sweeps.repair_stuck() == 0, "a live run that nothing moves"

    # --- The end --------------------------------------------------------------------------
    def finish(self) -> None:
        """Everybody cooperates: every run ends, or the engine has lost it."""
        for _ in range(60):
            live = list(Run.objects.filter(workspace=self.workspace, finished_at=None))
            if not live:
                return
            self._cooperate(live)
        raise AssertionError(f"never ended: {[(str(run.pk), run.status, run.reason) for run in live]}")

    def _cooperate(self, live: list[Run]) -> None:
        for run in live:
            if run.status == "paused":
                control.resume(run)
        for worker in self.workers:
            worker.crash()
        sql(  # also for claims that nobody knows of: their answer was lost
            "UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE status = 'running'"
        )
        sweeps.reap_expired()
        sweeps.expire_questions()
        self.wake()
        for step in Step.objects.filter(status="waiting", reason="outcome_unknown"):
            services.resolve(Run.objects.get(pk=step.run_id), step.key, outcome="done", result="said")
        for approval in Approval.objects.filter(decision=""):
            with suppress(InvalidTransition, ApprovalExpired):  # a denial before has ended the run, or it was too late
                self._decide(approvals.get(self.workspace.pk, approval.pk))
        budgets.set_limits(self.workspace.pk, None, {"tokens": None})
        for run in Run.objects.filter(workspace=self.workspace, finished_at=None).exclude(status="cancelling"):
            if run.reason == "budget":
                control.resume(run, limits=_raised(run.limits, 10))
        for lane in (Lane.MODEL, Lane.COMPUTE, Lane.SYSTEM):
            self.workers[0].drain(lane)

    def fail(self) -> AgentSysError:
        kinds = (
            ToolFailed("no"),
            ToolUnavailable("later"),
            ToolRateLimited("slowly"),
            ToolUnavailable("unsent", sent=False),
        )
        return self.rng.choice(kinds)

    def fenced(self, error: LeaseLost) -> None:
        self.seen["fenced"] += 1
        self.trace.append(f"  {error.message}")

    def give_back(self, one: Any) -> None:
        moves.give_back(one.id, one.run_id, one.claim_token, why="released")


def _raised(limits: Mapping[str, float], times: int) -> dict[str, float]:
    most = {"steps": 1_000, "time_s": 31_536_000, "parallel": 1_000}
    return {name: min(value * times, most.get(name, value * times)) for name, value in limits.items()}


_WEIGHTS = {
    "submit": 6, "claim": 14, "begin": 14, "end": 14, "record": 12, "record_again": 2, "beat": 3, "release": 1,
    "crash": 2, "bad_step": 1, "freeze": 3, "zombie": 1, "reap": 5, "wake": 5, "admit": 3, "decide": 5, "resolve": 3,
    "expire_questions": 1, "clock_jumps": 1, "clock_jumps_back": 1, "deadline": 1, "cancel": 1, "replan": 3, "plan": 6,
    "pause": 2, "resume": 3, "retry": 2, "repair": 0, "raise_limits": 2, "limit_workspace": 1, "time_up": 1,
    "cap": 1, "limit_lane": 1, "record_and_end": 2, "die_early": 2,
}  # fmt: skip
