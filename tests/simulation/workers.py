"""A worker whose every move is one action: it may die, freeze or be late between any two of them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agentsys.agents.plans import parse_plan
from agentsys.core.errors import AgentSysError, BudgetExhausted, GoalNotPlannable, LeaseLost, NotFound
from agentsys.llm.types import CallEstimate, Usage
from agentsys.runs import asking, handlers, planned
from agentsys.runs.leases import Held
from agentsys.runs.models import Run, Step
from agentsys.runs.store import claims, complete, decisions, expansion, messages, moves, reservations
from agentsys.runs.store.claims import Claim, Result
from agentsys.runs.store.create import NewSteps, steps_of
from agentsys.runs.store.decisions import Question
from agentsys.runs.store.reservations import Spending
from agentsys.tools import registry
from tests.simulation import plans
from tests.support.rows import sql

if TYPE_CHECKING:
    from tests.simulation.world import World

ROUNDS = 200


@dataclass
class Job:
    """A claim in a worker's hands."""

    claim: Claim
    begun: bool = False
    result: Result | None = None
    plan: NewSteps | None = None
    spending: Spending | None = None


def is_held(claim: Claim) -> bool:
    """What the database says, whatever its worker believes: the step is running under this claim, or ended under it."""
    same = Step.objects.filter(pk=claim.id, claim_token=claim.claim_token)
    return same.filter(status__in=("running", "succeeded")).exists()


class Worker:
    def __init__(self, name: str, world: "World") -> None:
        self.name, self.world = name, world
        self.jobs: list[Job] = []
        self.recorded: list[tuple[Claim, Result]] = []

    def claim(self, lane: str, limit: int) -> None:
        if len(self.jobs) < 8:
            self.jobs += map(Job, claims.claim_some(lane, owner=self.name, limit=limit, alone=not self.jobs))

    def begin(self) -> None:
        """The gate, the question, the timer: all that comes before a tool is called."""
        if (job := self._next(lambda job: not job.begun)) is None:
            return
        try:
            self._begin(job)
        except (LeaseLost, NotFound) as error:
            self._lost(job, error)
        except AgentSysError as error:
            self._fail(job, error)

    def _begin(self, job: Job) -> None:
        claim = job.claim
        if claim.kind == "plan":
            self._plan(job)
            return
        if claim.kind == "answer":
            self._ask_model(job)
            return
        if claim.kind != "tool":
            self._moved(job, handlers.HANDLERS[claim.kind](Held(claim)))
            return
        arguments = handlers.rendered(claim.run_id, claim.arguments or {})
        if claim.approval:
            arguments = asking.settled(arguments)
            if question := asking.about_call(claim, registry.get(claim.tool), arguments):
                self._moved(job, question)
                return
        if claim.effect == "unsafe":
            if not claims.open_gate(claim):
                raise LeaseLost("the gate stayed shut")
            self.world.calls[claim.idempotency_key] += 1
        job.begun = True

    def _plan(self, job: Job) -> None:
        """Some model's plan; it cannot always."""
        claim, rng = job.claim, self.world.rng
        standing = planned.progress(claim, Run.objects.get(pk=claim.run_id), messages.heard(claim)).standing()
        if rng.random() < 0.2:
            raise GoalNotPlannable("no")
        tools = registry.all_tools()
        plan = parse_plan(plans.draw(rng, standing), tools=tools, standing=standing)
        job.begun, job.plan = True, steps_of(plan, tools)

    def plan(self) -> None:
        """A model's answer comes back."""
        if (job := self._next(lambda job: job.plan is not None)) is None or job.plan is None:
            return
        try:
            expansion.expand(job.claim, Result({}), job.plan)
        except LeaseLost as error:
            self._lost(job, error)
            return
        self.jobs.remove(job)
        self.world.seen["replanned"] += 1
        self.world.seen["kept"] += Step.objects.filter(pk=job.claim.id, status="waiting").exists()

    def _ask_model(self, job: Job) -> None:
        """Room is reserved for the call, or the step waits for it."""
        job.spending = Spending()
        estimate = CallEstimate(200, 300, Decimal("0.0002"), Decimal("0.000001"))
        try:
            reservations.reserve(job.claim, estimate, job.spending)
        except BudgetExhausted:
            self.world.seen["parked"] += 1
            raise
        job.spending.unsure = job.spending.reserved
        job.begun = True

    def _answered(self, job: Job) -> Result:
        """With what the call used: sometimes more than was reserved, sometimes nobody says."""
        tokens = (self.world.rng.randint(0, 400), self.world.rng.randint(0, 300))
        usage = Usage(*tokens, Decimal(sum(tokens)) / 1_000_000, 1)
        if job.spending is not None:
            job.spending.reported = job.spending.present = usage
            job.spending.unsure = job.spending.reserved and self.world.rng.random() < 0.1
        return Result({"of": job.claim.key}, usage)

    def _moved(self, job: Job, outcome: Any) -> None:
        if isinstance(outcome, Result):
            job.begun, job.result = True, outcome
        elif isinstance(outcome, Question):
            decisions.ask(job.claim, outcome)
            self.jobs.remove(job)
        else:
            moves.sleep(job.claim, until=outcome.until, delay_s=outcome.delay_s)
            self.jobs.remove(job)

    def end(self) -> None:
        """The tool comes back, with a result or an error."""
        if (job := self._next(lambda job: job.begun and job.result is None and job.plan is None)) is None:
            return
        if self.world.rng.random() < 0.7:
            job.result = self._answered(job) if job.claim.kind == "answer" else Result({"of": job.claim.key})
        else:
            error = self.world.fail()
            if error.data.get("sent") is False:  # its word that the call was not made
                self.world.calls[job.claim.idempotency_key] -= job.claim.effect == "unsafe"
            self._fail(job, error)

    def record(self, *, go_on: int | None = None) -> None:
        """Whatever has come back is recorded together, with claims of what follows."""
        done = [job for job in self.jobs if job.result is not None and job.claim.lane == self._lane()]
        for job in [job for job in done if job.spending is not None and job.spending.reserved]:
            done.remove(job)
            self._record_paid(job, job.result or Result(None))
        if not done:
            return
        given = [(job.claim, job.result or Result(None)) for job in done]
        claim_next = self.world.rng.randint(0, len(done)) if go_on is None else go_on
        ours = {claim.claim_token for claim, _ in given if is_held(claim)}
        outcomes = complete.complete_all(given, claim_next=claim_next)
        for job in done:
            lost = isinstance(outcomes[job.claim.claim_token], LeaseLost)
            assert lost or job.claim.claim_token in ours, "a result was taken from a worker that held the step no more"
            self._recorded(job, outcomes[job.claim.claim_token])

    def _record_paid(self, job: Job, result: Result) -> None:
        """By itself, with what it has spent."""
        try:
            expansion.succeed(job.claim, result, job.spending)
        except LeaseLost as error:
            self._lost(job, error)
            return
        self.jobs.remove(job)
        self.recorded.append((job.claim, result))

    def _recorded(self, job: Job, outcome: complete.Outcome) -> None:
        if isinstance(outcome, LeaseLost):
            self.world.seen["zombie"] += 1
            self._lost(job, outcome)
            return
        self.jobs.remove(job)
        self.recorded.append((job.claim, job.result or Result(None)))
        self.jobs += [Job(following) for following in outcome.claims]

    def record_again(self) -> None:
        """An answer was lost: the same record once more, long after."""
        if not self.recorded:
            return
        claim, result = self.world.rng.choice(self.recorded)
        ours = is_held(claim)
        outcome = complete.complete_all([(claim, result)], claim_next=0)[claim.claim_token]
        assert ours or isinstance(outcome, LeaseLost), "a result was taken again from one that held it no more"
        self.world.seen["already"] += not isinstance(outcome, LeaseLost)

    def release(self) -> None:
        for job in list(self.jobs):
            self.world.give_back(job.claim)
            self.jobs.remove(job)

    def crash(self) -> None:
        """Everything in its hands is gone, and it does not say so."""
        self.expire()
        self.world.seen["crashed"] += bool(self.jobs)
        self.jobs.clear()

    def expire(self) -> None:
        """Its heartbeat stops; it may still believe in its claims."""
        tokens = [job.claim.claim_token for job in self.jobs]
        sql(
            "UPDATE runs_step SET lease_expires_at = clock_timestamp() - interval '1 second'"
            " WHERE claim_token = ANY(%s) AND status = 'running'",
            tokens,
        )

    def beat(self) -> None:
        held = [(job.claim.id, job.claim.claim_token) for job in self.jobs]
        if held:
            claims.heartbeat(held)

    def drain(self, lane: str) -> None:
        """Do all that a lane has due, well."""
        for _ in range(ROUNDS):
            self.claim(lane, 8)
            if not self.jobs:
                return
            while any(not job.begun for job in self.jobs):
                self.begin()
            while any(job.plan is not None for job in self.jobs):
                self.plan()
            for job in self.jobs:
                job.result = job.result or Result({"of": job.claim.key})
            while self.jobs and all(job.begun for job in self.jobs):
                self.record(go_on=0)

    def _lane(self) -> str:
        return next((job.claim.lane for job in self.jobs if job.result is not None), "")

    def _next(self, suits: Any) -> Job | None:
        found = [job for job in self.jobs if suits(job)]
        return self.world.rng.choice(found) if found else None

    def _fail(self, job: Job, error: Any) -> None:
        self.jobs.remove(job)
        ours = is_held(job.claim)
        try:
            moves.fail(job.claim, moves.Fault(error, "tool", job.spending))
        except (LeaseLost, NotFound) as lost:
            self.world.seen["fenced"] += isinstance(lost, LeaseLost)
        else:
            assert ours, "a failure was taken from a worker that held the step no more"

    def _lost(self, job: Job, error: AgentSysError) -> None:
        """As the engine does: the result is worthless; a step that is ours all the same is given back."""
        self.jobs.remove(job)
        if isinstance(error, LeaseLost):
            self.world.fenced(error)
            self.world.give_back(job.claim)
