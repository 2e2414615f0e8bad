"""The world as REST shows it, held against the model after every rule."""

from typing import Any

from tests.machine.model import FINAL, Run, Step
from tests.machine.work import same
from tests.support import tools

Call = Any
DUE = ("ready", "queued")


def look(call: Call, run: Run) -> None:
    """Read a run, its steps and its new events; what the model left open is taken from there.

    Raises:
        AssertionError: this must not be.
    """
    status, shown, _ = call("get", f"runs/{run.id}")
    assert status == 200
    steps = {step["key"]: step for step in call("get", f"runs/{run.id}/steps")[1]["results"]}
    assert list(steps) == list(run.steps), "a step came or went"
    if run.wild:
        _adopt_all(run, shown, steps)
    elif run.before is not None:
        _adopt_end(run, shown, steps)
    _check_events(call, run, shown)
    _check_run(run, shown)
    for step in run.steps.values():
        _check_step(run, step, steps[step.key])
        _check_calls(run, step)
    run.seen, run.dirty = shown, False


def _check_run(run: Run, shown: dict[str, Any]) -> None:
    statuses, reasons = run.expected()
    assert shown["status"] in statuses, (shown, statuses)
    assert shown["reason"] in reasons, (shown, reasons)
    if run.seen.get("finished_at"):
        assert shown == run.seen, "a finished run has changed"
    assert (shown["finished_at"] is None) == run.is_live
    assert (shown["error"] or {}).get("code") == run.code
    assert same(shown["result"], run.result), (shown["result"], run.result)
    ended = sum(step.status in ("succeeded", "failed") and not step.kept for step in run.steps.values())
    assert shown["usage"]["steps"] == ended


def _check_step(run: Run, step: Step, shown: dict[str, Any]) -> None:
    status = "due" if shown["status"] in DUE else shown["status"]
    assert status == step.status, (step, shown)
    if status == "due" and run.paused:
        assert shown["status"] == "queued"
    if status == "waiting":
        assert shown["reason"] == step.reason
    assert (shown["attempt"], shown["failures"]) == (step.attempt, step.failures), (step, shown)
    if status in FINAL:
        assert same(shown["output"], step.output if status == "succeeded" else None), (step, shown)
    if status == "failed":
        assert shown["error"]["code"] == step.code, (step, shown)


def _check_calls(run: Run, step: Step) -> None:
    """Of calls that must not be repeated: as the tool itself has noted them."""
    if step.does in ("charge", "unknown", "lost") and step.called is not None:
        assert tools.calls.count(("charge", f"{run.id}:{step.key}")) == step.called, step


def _check_events(call: Call, run: Run, shown: dict[str, Any]) -> None:
    """New ones follow the old ones without a gap, and a terminal one is the last."""
    page = call("get", f"runs/{run.id}/events?limit=500&after={len(run.events)}")[1]
    new = page["results"]
    assert [event["seq"] for event in new] == list(range(len(run.events) + 1, len(run.events) + len(new) + 1))
    run.events += new
    ends = [event["seq"] for event in run.events if event["type"] in ("run.succeeded", "run.failed", "run.cancelled")]
    assert ends == ([len(run.events)] if shown["finished_at"] else []), (
        "the terminal event is the last, and there is one"
    )
    turns = [
        event["type"] for event in run.events if event["type"].startswith("run.") and event["type"] != "run.resumed"
    ]
    assert turns[-1] == f"run.{shown['status']}"
    paused = False
    for event in run.events:
        paused = (paused or event["type"] == "run.paused") and event["type"] != "run.resumed"
        assert not (paused and event["type"] == "step.started"), "a step has started in a paused run"


def _adopt_end(run: Run, shown: dict[str, Any], steps: dict[str, Any]) -> None:
    """A failure has ended it in a turn: what was due was done before, cancelled, or done and thrown away."""
    before, run.before = run.before or {}, None
    for key, step in run.steps.items():
        found = steps[key]
        if before.get(key, "due") in (*FINAL, "running"):
            assert found["status"] == before.get(key)
            continue
        assert found["status"] in FINAL
        if found["status"] == "succeeded" and step.status != "succeeded":
            step.output = ...
        _copy(step, found)
    fatal = [step for step in run.steps.values() if step.status == "failed" and step.on_error == "fail"]
    assert (shown["error"] or {}).get("code") in {step.code for step in fatal}
    run.code = shown["error"]["code"]
    run.stopping = {"tool_failed": "tool", "tool_unavailable": "tool", "child_failed": "error"}.get(
        run.code, run.stopping
    )
    if run.final:
        run.final = ("failed", run.stopping)


def _adopt_all(run: Run, shown: dict[str, Any], steps: dict[str, Any]) -> None:
    """Its parent was stopped in the turn in which it was made or moved."""
    run.wild, run.before = False, None
    run.paused = shown["reason"] if shown["status"] == "paused" else ""
    for key, step in run.steps.items():
        if steps[key]["status"] == "succeeded" and step.status != "succeeded":
            step.output = ...
        _copy(step, steps[key])
    for step in run.steps.values():
        step.left = sum(run.steps[key].status not in FINAL for key in step.needs)
    run.started = shown["started_at"] is not None
    run.code = (shown["error"] or {}).get("code")
    run.final = (shown["status"], shown["reason"]) if shown["finished_at"] else None
    run.stopping = shown["reason"] if shown["status"] in ("failed", "cancelled", "cancelling") else ""
    run.result = shown["result"]


def _copy(step: Step, found: dict[str, Any]) -> None:
    code = (found["error"] or {}).get("code")
    step.status = "due" if found["status"] in DUE else found["status"]
    step.reason, step.attempt, step.failures = found["reason"], found["attempt"], found["failures"]
    step.code, step.called = code, None
    step.begun = step.is_unsafe and step.status in ("waiting", "cancelled") and code == "outcome_unknown"
