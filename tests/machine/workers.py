"""Workers that do all that is due, take steps and keep them, come late or die; sweepers; and time."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentsys.runs import leases
from agentsys.runs.attempts import Attempt
from agentsys.runs.states import Lane
from agentsys.runs.store import children, claims, complete, moves, sweeps
from tests.machine import work
from tests.machine.base import WHICH, Base, Held
from tests.support.rows import sql
from tests.support.worker import Watcher

LANES = st.sampled_from((Lane.COMPUTE, Lane.COMPUTE, Lane.COMPUTE, Lane.NETWORK, Lane.SYSTEM, Lane.SYSTEM, Lane.MODEL))
#: No lease ends by itself while a test thinks.
LONG = "UPDATE runs_step SET lease_expires_at = clock_timestamp() + interval '1 day' WHERE claim_token = %s"
OVER = (
    "UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 second'"
    " WHERE claim_token = %s AND status = 'running'"
)
#: It had a month, as will what is made from it.
LATE = (
    "UPDATE runs_run SET deadline_at = clock_timestamp(), created_at = clock_timestamp() - interval '30 days'"
    " WHERE id = %s AND finished_at IS NULL"
)


class Workers(Base):
    @rule(lane=LANES)
    def turn(self, lane: Lane) -> None:
        """A good worker does all that a lane has due."""
        done = self.worker.drain(lane)
        due = any(run.due(lane) for run in self.runs)
        assert bool(done) == due
        work.turn(self.runs, lane)

    @rule(lane=LANES, limit=st.integers(1, 3))
    def take(self, lane: Lane, limit: int) -> None:
        """Another takes steps, and is slow."""
        due = {(run.id, step.key): (run, step) for run in self.runs for step in run.due(lane)}
        taken = claims.claim_some(lane, owner="slow", limit=limit)
        assert bool(taken) == bool(due)
        for claim in taken:
            run, step = due[str(claim.run_id), claim.key]
            run.start(step)
            sql(LONG, claim.claim_token)
            self.held.append(Held(claim, run, step))

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        """It does its work, and records what came of it: worthless, if the step was taken from it."""
        held = self.held.pop(which % len(self.held))
        attempt = Attempt(leases.hold(held.claim), Watcher())
        if (result := attempt.do()) is not None:
            self._record(attempt, held, result)
        if held.lost:
            work.late(held.step)
            self.counts["late result"] += 1
            held.run.dirty = True
        elif (child := work.end(held.run, held.step, trusted=not held.expired)) is not None:
            self.runs.append(child)

    def _record(self, attempt: Attempt, held: Held, result: Any) -> None:
        outcome = complete.complete_all([(held.claim, result)], claim_next=0)[held.claim.claim_token]
        if isinstance(outcome, complete.LeaseLost):
            assert held.lost
            attempt.failed(outcome)
            return
        attempt.succeeded(result)
        if outcome.parent_step is not None:
            children.take_over(outcome.parent_step)

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def begin_a_call(self, which: int) -> None:
        """It opens the gate before a call that must not be repeated; what becomes of the call nobody sees."""
        held = self.held[which % len(self.held)]
        run, step = held.run, held.step
        if step.is_unsafe and step.does != "wire":
            may = not (held.lost or held.expired or run.stopping or step.begun)
            assert claims.open_gate(held.claim) == may
            step.begun = step.begun or may

    @precondition(lambda self: self.held)
    @rule(which=WHICH, how=st.sampled_from(("released", "dead", "late", "late")))
    def lose(self, which: int, how: str) -> None:
        """It gives a step up; or its process is known to be dead; or its lease runs out, and it does not know."""
        held = self.held[which % len(self.held)]
        if how == "late":
            sql(OVER, held.claim.claim_token)
            held.expired = True
            return
        self.held.remove(held)
        moves.give_back(held.claim.id, held.claim.run_id, held.claim.claim_token, why=how)
        if not held.lost:
            work.crash(held.run, held.step, counted=how == "dead")
            self.counts[how] += 1

    @precondition(lambda self: any(held.expired for held in self.held) or any(run.parent for run in self.live()))
    @rule()
    def sweep(self) -> None:
        """Everything that a sweeper does in one round, but what only time brings."""
        sweeps.wake_sleepers()
        sweeps.admit()
        sweeps.join_children()
        sweeps.cancel_orphans()
        assert sweeps.follow_parents() == []
        self._reap()
        assert sweeps.repair_stuck() == 0
        for run in self.runs:
            if run.parent is not None and run.parent[0].steps[run.parent[1]].status != "waiting":
                run.stop("parent")

    def _reap(self) -> None:
        with self.short_leases():
            sweeps.reap_expired()
        for held in self.held:
            if held.expired and not held.lost:
                held.lost = True
                work.crash(held.run, held.step)
                self.counts["reaped"] += 1

    @precondition(lambda self: any(step.status == "sleeping" for run in self.runs for step in run.steps.values()))
    @rule()
    def time_passes(self) -> None:
        """Every timer, retry and start is due."""
        sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE status = 'sleeping'")
        sweeps.wake_sleepers()
        for run in self.runs:
            for step in run.steps.values():
                if step.status == "sleeping":
                    run.back(step, step.reason)
                    self.counts["woken"] += 1

    @precondition(lambda self: self.live())
    @rule(which=WHICH, luck=WHICH)
    def deadline(self, which: int, luck: int) -> None:
        run = self.pick(which)
        if luck != 0:  # seldom: it ends what could go on
            return
        sql(LATE, run.id)
        sweeps.end_past_deadline()
        run.stop("deadline", "deadline_exceeded")
        self.counts["deadline"] += 1
