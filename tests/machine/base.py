"""What all rules share: clients, the runs of the model, and the comparison after every rule."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from agentsys.runs.store.claims import Claim
from tests.machine import seen
from tests.machine.model import Run, Step, run_of
from tests.support import tools
from tests.support.worker import Worker

MAX_RUNS = 5
ShortLeases = Callable[[], AbstractContextManager[None]]
WHICH = st.integers(0, 7)


class Held:
    """A claim in the hands of a worker that may be slow, or dead."""

    def __init__(self, claim: Claim, run: Run, step: Step) -> None:
        self.claim, self.run, self.step = claim, run, step
        self.lost = self.expired = False


class Base(RuleBasedStateMachine):
    """One history in an empty workspace."""

    def __init__(self, clients: dict[str, Any], counts: Counter[str], short_leases: ShortLeases) -> None:
        super().__init__()
        self.clients, self.counts, self.short_leases = clients, counts, short_leases
        self.runs: list[Run] = []
        self.keys: dict[str, tuple[Any, list[str]]] = {}
        self.held: list[Held] = []
        self.approvals: list[tuple[str, Run, Step]] = []
        self.worker = Worker("good")
        tools.calls.clear()

    # --- Doors ----------------------------------------------------------------------------
    def call(self, method: str, path: str, body: Any = None, *, who: str = "operator", key: str = "") -> Any:
        """Status, body and headers of an answer."""
        extra = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
        data = {} if method == "get" else {"data": body, "format": "json"}
        response = getattr(self.clients[who], method)(f"/api/v1/{path}", **data, **extra)
        assert response.status_code < 500, response.content
        return response.status_code, response.json(), response.headers

    def refused(self, answer: Any, status: int, code: str) -> None:
        assert (answer[0], answer[1]["code"]) == (status, code), answer
        self.counts[code] += 1

    def live(self) -> list[Run]:
        return [run for run in self.runs if run.is_live]

    def pick(self, which: int) -> Run:
        return self.runs[which % len(self.runs)]

    @invariant()
    def as_the_model_says(self) -> None:
        """After every rule: whatever it may have touched is as the model says."""
        self._find_children()
        while dirty := [run for run in self.runs if run.dirty]:
            for run in dirty:
                seen.look(self.call, run)
                self.counts[f"run {run.seen['status']}"] += 1

    def _find_children(self) -> None:
        """The runs that delegate steps have made, by the first event of each."""
        for run in list(self.runs):
            if run.dirty and any(step.does == "delegate" and step.attempt for step in run.steps.values()):
                for shown in self.call("get", f"runs?parent={run.id}")[1]["results"]:
                    if all(known.id != shown["id"] for known in self.runs):
                        self._adopt_child(run, shown["id"])

    def _adopt_child(self, run: Run, run_id: str) -> None:
        told = self.call("get", f"runs/{run_id}/events?limit=1")[1]["results"][0]["data"]
        assert told["child_of"] == run.id
        step = run.steps[told["step"]]
        if step.child is None:  # made in a turn that ended its parent
            step.child = run_of(step.child_shape, parent=(run, step.key), wild=True)
        assert not step.child.id, "a second child of the same step"
        step.child.id = run_id
        self.counts["child"] += 1
        if step.child not in self.runs:
            self.runs.append(step.child)
