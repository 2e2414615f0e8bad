"""Those who steer runs, make others from them, and look; and those who may not."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine import work
from tests.machine.base import MAX_RUNS, WHICH, Base
from tests.machine.model import Run

WRITES = ("cancel", "pause", "resume", "retry", "fork", "messages")
PARTS = ("", "/steps", "/events", "/messages", "/files")
STATUSES = ("running", "waiting", "failed", "succeeded", "cancelled", "paused")


class People(Base):
    """Each answer is predicted; a refusal changes nothing."""

    @precondition(lambda self: self.runs)
    @rule(which=WHICH, verb=st.sampled_from((*WRITES, "resume", "retry", "fork")), step=WHICH, flag=st.booleans())
    def steer(self, which: int, verb: str, step: int, flag: bool) -> None:
        run = self.pick(which)
        if verb == "fork":
            self._fork(run, step, live=flag)
        elif verb == "messages":
            self._say(run, "go on" if flag else "\u2028 ")
        elif verb != "cancel" or step == 0:
            getattr(self, f"_{verb}")(run)

    def _cancel(self, run: Run) -> None:
        answer = self.call("post", f"runs/{run.id}/cancel")
        if not run.is_live:
            self.refused(answer, 409, "invalid_transition")
        else:
            assert answer[0] == 200, answer
            run.stop("user")

    def _pause(self, run: Run) -> None:
        answer = self.call("post", f"runs/{run.id}/pause")
        if not run.is_open:
            self.refused(answer, 409, "invalid_transition")
        else:
            assert (answer[0], answer[1].get("status")) == (200, "paused"), answer
            run.pause()

    def _resume(self, run: Run) -> None:
        answer = self.call("post", f"runs/{run.id}/resume")
        if not run.paused or (run.parent and run.parent[0].paused):
            self.refused(answer, 409, "invalid_transition")
        else:
            assert answer[0] == 200, answer
            run.resume()

    def _retry(self, run: Run) -> None:
        if run.final is None or run.final[0] == "succeeded":
            self.refused(self.call("post", f"runs/{run.id}/retry"), 409, "invalid_transition")
        elif len(self.runs) < MAX_RUNS:
            self._derived(self.call("post", f"runs/{run.id}/retry"), work.retried(run), run)

    def _fork(self, run: Run, step: int, *, live: bool) -> None:
        key = list(run.steps)[step % len(run.steps)]
        body = {"from_step": key, "effects": "live" if live else "recorded"}
        if len(self.runs) < MAX_RUNS:
            self._derived(self.call("post", f"runs/{run.id}/fork", body), work.forked(run, key, live=live), run)
        bad = self.call("post", f"runs/{run.id}/fork", body | {"from_step": "nowhere"})
        self.refused(bad, 422, "invalid_input")

    def _derived(self, answer: Any, new: Run, origin: Run) -> None:
        assert (answer[0], answer[1]["parent_run"]) == (202, origin.id), answer
        new.id = answer[1]["id"]
        self.runs.append(new)
        self.counts["derived"] += 1

    def _say(self, run: Run, text: str) -> None:
        if run.is_goal:  # its planner would heed it
            return
        answer = self.call("post", f"runs/{run.id}/messages", {"text": text})
        if not text.strip():
            self.refused(answer, 422, "invalid_input")
        elif not run.is_open:
            self.refused(answer, 409, "invalid_transition")
        else:
            assert answer[0] == 201, answer
        run.dirty = True

    @precondition(lambda self: self.runs)
    @rule(
        which=WHICH, verb=st.sampled_from(WRITES), part=st.sampled_from(PARTS), status=st.sampled_from(STATUSES),
        limit=st.integers(1, 3),
    )  # fmt: skip
    def look(self, which: int, verb: str, part: str, status: str, limit: int) -> None:
        run = self.pick(which)
        self._not_theirs(run, verb, part)
        self._lists(status, limit)

    def _not_theirs(self, run: Run, verb: str, part: str) -> None:
        body = {"fork": {"from_step": "s0"}, "messages": {"text": "x"}}.get(verb)
        expected = {"viewer": (403, "forbidden"), "stranger": (404, "not_found"), "nobody": (401, "not_authenticated")}
        for who, refusal in expected.items():
            self.refused(self.call("post", f"runs/{run.id}/{verb}", body, who=who), *refusal)
        assert self.call("get", f"runs/{run.id}{part}", who="viewer")[0] == 200
        self.refused(self.call("get", f"runs/{run.id}{part}", who="stranger"), 404, "not_found")
        run.dirty = True

    def _lists(self, status: str, limit: int) -> None:
        """Page by page, the newest first; another workspace sees none of it."""
        path, found = f"runs?status={status}&limit={limit}", []
        while path:
            page = self.call("get", path)[1]
            assert len(page["results"]) <= limit
            found += [run["id"] for run in page["results"]]
            path = (page["next"] or "").partition("/api/v1/")[2]
        assert found == sorted((run.id for run in self.runs if run.seen["status"] == status), reverse=True)
        assert self.call("get", "runs", who="stranger")[1]["results"] == []
