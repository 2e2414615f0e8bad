"""Those who decide: approvals, questions, and calls that nobody saw the end of."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentsys.runs.store import sweeps
from tests.machine import work
from tests.machine.base import WHICH, Base
from tests.machine.model import Run, Step
from tests.support.rows import sql

OUTCOMES = ("done", "not_done", "failed")
DECISIONS = ("approve", "edit", "deny", "answer")
BODIES = {"edit": {"arguments": {"to": "edited", "amount": 2}}, "answer": {"answer": "this one"}}


class Deciders(Base):
    def asked(self) -> list[tuple[Run, Step]]:
        return self._waiting("approval") + self._waiting("input")

    def in_the_dark(self) -> list[tuple[Run, Step]]:
        return self._waiting("outcome_unknown")

    def _waiting(self, reason: str) -> list[tuple[Run, Step]]:
        return [
            (run, step) for run in self.runs for step in run.steps.values()
            if step.status == "waiting" and step.reason == reason
        ]  # fmt: skip

    def _open(self, run: Run, step: Step) -> dict[str, Any]:
        """The one open approval of a step."""
        found = self.call("get", f"approvals?run={run.id}&state=open")[1]["results"]
        (shown,) = [one for one in found if one["step"] == step.key]
        assert shown["kind"] == step.reason
        if step.does == "wire":
            assert shown["arguments"] == step.asked
        self.approvals.append((shown["id"], run, step))
        return shown

    @precondition(lambda self: self.asked())
    @rule(which=WHICH, verb=st.sampled_from((*DECISIONS, "approve", "answer")))
    def decide(self, which: int, verb: str) -> None:
        asked = self.asked()
        run, step = asked[which % len(asked)]
        shown = self._open(run, step)
        body = BODIES.get(verb, {})
        self._refusals(shown, verb, body)
        answer = self.call("post", f"approvals/{shown['id']}/{verb}", {**body, "digest": shown["digest"]})
        run.dirty = True
        if verb != "deny" and (verb == "answer") != (step.reason == "input"):
            self.refused(answer, 409, "invalid_transition")
        elif verb == "edit" and step.asked == body["arguments"]:
            self.refused(answer, 422, "invalid_input")
        elif step.over:
            self.refused(answer, 409, "approval_expired")
        else:
            assert answer[0] == 200, answer
            self._decided(run, step, verb)
            self.refused(self.call("post", f"approvals/{shown['id']}/deny"), 409, "approval_decided")

    def _refusals(self, shown: dict[str, Any], verb: str, body: dict[str, Any]) -> None:
        """What is refused leaves it open for the decision that follows."""
        path = f"approvals/{shown['id']}/{verb}"
        self.refused(self.call("post", path, body, who="stranger"), 404, "not_found")
        self.refused(self.call("post", path, body, who="viewer"), 403, "forbidden")
        if verb == "deny" or (verb == "answer") == (shown["kind"] == "input"):
            self.refused(self.call("post", path, {**body, "digest": "0" * 64}), 409, "approval_changed")
        if verb == "answer" and shown["kind"] == "input":
            self.refused(self.call("post", path, {"answer": 5}), 422, "invalid_input")
        if verb == "edit" and shown["kind"] == "approval":
            self.refused(self.call("post", path, {"arguments": {"too": "bob"}}), 422, "invalid_input")

    def _decided(self, run: Run, step: Step, verb: str) -> None:
        self.counts[verb] += 1
        if verb == "deny":
            run.fail(step, "approval_denied", "policy")
        elif verb == "answer":
            run.succeed(step, "this one")
        else:
            if verb == "edit":
                step.asked = {**BODIES["edit"]["arguments"]}
            step.arguments = {"amount": 1, "note": None, **step.asked}
            run.back(step)

    @precondition(lambda self: self.approvals)
    @rule(which=WHICH)
    def decide_late(self, which: int) -> None:
        """What was open when somebody looked, and is not any more."""
        approval, run, step = self.approvals[which % len(self.approvals)]
        if step.status == "waiting" and step.reason in ("approval", "input"):
            return
        answer = self.call("post", f"approvals/{approval}/deny")
        assert answer[0] == 409, answer
        self.counts["late decision"] += 1
        run.dirty = True

    @precondition(lambda self: self.asked())
    @rule(which=WHICH)
    def time_is_over(self, which: int) -> None:
        """For one who is asked; nobody has noticed yet."""
        asked = self.asked()
        run, step = asked[which % len(asked)]
        sql(
            "WITH s AS (UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s AND key = %s"
            " RETURNING *) UPDATE runs_approval a SET expires_at = s.available_at FROM s"
            " WHERE a.step_id = s.id AND a.decision = ''",
            run.id, step.key,
        )  # fmt: skip
        step.over = True
        if step.does == "ask":  # too late, and not expired yet
            (shown,) = [
                one
                for one in self.call("get", f"approvals?run={run.id}&state=open")[1]["results"]
                if one["step"] == step.key
            ]
            self.refused(self.call("post", f"approvals/{shown['id']}/deny"), 409, "approval_expired")

    @precondition(lambda self: any(step.over for _, step in self.asked()))
    @rule()
    def questions_expire(self) -> None:
        sweeps.expire_questions()
        for run, step in self.asked():
            if step.over and step.status == "waiting":
                self.counts["expired"] += 1
                run.fail(step, "approval_expired", "policy")

    @precondition(lambda self: self.in_the_dark())
    @rule(which=WHICH, outcome=st.sampled_from(OUTCOMES))
    def resolve(self, which: int, outcome: str) -> None:
        dark = self.in_the_dark()
        run, step = dark[which % len(dark)]
        path = f"runs/{run.id}/steps/{step.key}/resolve"
        body = {"outcome": outcome, "result": work.SAID}
        self.refused(self.call("post", path, body, who="stranger"), 404, "not_found")
        self.refused(self.call("post", path, body, who="viewer"), 403, "forbidden")
        assert self.call("post", path, {"outcome": "perhaps"})[0] == 422

        assert self.call("post", path, body)[0] == 200
        work.resolve(run, step, outcome)
        self.counts[f"resolved {outcome}"] += 1
        self.refused(self.call("post", path, body), 409, "invalid_transition")
