"""Those who submit: once, twice with the same key, many runs at once, for later."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.base import MAX_RUNS, Base
from tests.machine.model import run_of
from tests.machine.shapes import GOAL, PLANNING, Shape, plan, shapes

HOW = st.sampled_from(("once", "once", "once", "goal", "later", "twice", "batch", "bad batch"))


class Submitters(Base):
    @precondition(lambda self: len(self.runs) < MAX_RUNS)
    @rule(shape=shapes(), other=shapes(), how=HOW, key=st.sampled_from(("k0", "k1")), priority=st.integers(-10, 10))
    def submit(self, shape: Shape, other: Shape, how: str, key: str, priority: int) -> None:
        if how == "twice":
            self._twice(shape, other, key)
        elif how == "batch":
            self._batch(shape, other, f"b{key}")
        elif how == "bad batch":
            body = {"runs": [{"plan": plan(shape)}, {"plan": {"steps": []}}]}
            self.refused(self.call("post", "runs/batch", body), 422, "invalid_input")
        elif how == "goal":
            self._submitted(self.call("post", "runs", {"goal": GOAL, "priority": priority}), (PLANNING,))
        else:
            self._once(shape, {"plan": plan(shape), "priority": priority}, later=how == "later")

    def _once(self, shape: Shape, body: dict[str, Any], *, later: bool) -> None:
        if later:
            body["start_at"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        self._submitted(self.call("post", "runs", body), shape)
        if later:
            run = self.runs[-1]
            run.asleep = True
            for step in run.steps.values():
                step.status, step.reason = ("sleeping", "start_at") if step.status == "due" else (step.status, "")

    def _submitted(self, answer: Any, shape: Shape) -> None:
        status, shown, headers = answer
        assert (status, headers["Location"]) == (202, f"/api/v1/runs/{shown['id']}"), answer
        self.runs.append(run_of(shape, id=shown["id"]))

    def _twice(self, shape: Shape, other: Shape, key: str) -> None:
        if key not in self.keys:
            body = {"plan": plan(shape)}
            self._submitted(self.call("post", "runs", body, key=key), shape)
            self.keys[key] = (body, [self.runs[-1].id])
        self._replay(key)
        if plan(other) != self.keys[key][0]["plan"]:
            self.refused(self.call("post", "runs", {"plan": plan(other)}, key=key), 422, "idempotency_key_reused")

    def _batch(self, first: Shape, second: Shape, key: str) -> None:
        if key not in self.keys:
            body: dict[str, Any] = {"runs": [{"plan": plan(first)}, {"plan": plan(second)}]}
            shown = self.call("post", "runs/batch", body, key=key)[1]["results"]
            self.runs += [run_of(shape, id=one["id"]) for shape, one in zip((first, second), shown, strict=True)]
            self.keys[key] = (body, [one["id"] for one in shown])
        self._replay(key)

    def _replay(self, key: str) -> None:
        body, ids = self.keys[key]
        path = "runs/batch" if "runs" in body else "runs"
        status, shown, headers = self.call("post", path, body, key=key)
        assert (status, headers["Idempotent-Replayed"]) == (202, "true")
        assert [one["id"] for one in shown.get("results", [shown])] == ids
        self.counts["replayed"] += 1
