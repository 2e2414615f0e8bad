"""running -> sleeping, failed: how long a step waits, when it gives up, and what its run makes of it."""

import json
import math

import pytest

from agentsys.core.errors import AgentSysError, ModelUnavailable, StepTimeout, ToolFailed, ToolUnavailable
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support.rows import value, wake_now
from tests.support.worker import events, statuses


class Busy(ToolUnavailable):
    """The other side asks to wait; that is no try."""

    uses_attempt = False


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def fault(error):
    return moves.Fault(error, "tool")


def again(run):
    """Wake what sleeps, and claim it."""
    wake_now(run)
    sweeps.wake_sleepers()
    return claim("compute", owner="w")


def sleeps_for_s():
    return value("SELECT extract(epoch FROM available_at - clock_timestamp()) FROM runs_step WHERE status = 'sleeping'")


def test_the_pause_doubles_with_each_failure_up_to_the_cap(submit, settings):
    settings.RETRY_BASE_S, settings.RETRY_CAP_S = 8.0, 20.0
    run = submit([echo(max_attempts=6)])
    one = claim("compute", owner="w")
    for least, most in ((4, 8), (8, 16), (10, 20), (10, 20), (10, 20)):
        moves.fail(one, fault(ToolUnavailable("x")))

        assert least - 1 < sleeps_for_s() <= most
        one = again(run)
    assert one.attempt == 6


def test_pauses_of_many_runs_are_spread(submit, settings):
    settings.RETRY_BASE_S, settings.RETRY_CAP_S = 1000.0, 1000.0
    for _ in range(20):
        submit([echo()])
        moves.fail(claim("compute", owner="w"), fault(ToolUnavailable("x")))

    spread = value("SELECT extract(epoch FROM max(available_at) - min(available_at)) FROM runs_step")
    assert spread > 100


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (30, 29, 30),
        (0.5, -1, 0.5),
        (0, -1, 0),
        (-5, -1, 0),
        (10**9, 604_000, 604_800),
        (10**400, 604_000, 604_800),
        (math.inf, 604_000, 604_800),
        (math.nan, 0, 2),
        ("60", 0, 2),
        (None, 0, 2),
        (True, 0, 2),
        ([], 0, 2),
    ],
)
def test_retry_after_is_honoured_within_a_week_and_nonsense_is_not(submit, settings, asked, least, most):
    settings.RETRY_BASE_S = 2.0
    submit([echo()])

    moves.fail(claim("compute", owner="w"), fault(Busy("x", retry_after_s=asked)))

    assert least <= sleeps_for_s() <= most


def test_being_told_to_wait_uses_up_no_try(submit):
    run = submit([echo(max_attempts=2)])
    one = claim("compute", owner="w")
    for _ in range(5):
        moves.fail(one, fault(Busy("later", retry_after_s=0)))
        one = again(run)
    assert (one.attempt, one.failures) == (6, 0)

    moves.fail(one, fault(ToolUnavailable("x")))
    one = again(run)
    moves.fail(one, fault(ToolUnavailable("y")))

    run.refresh_from_db()
    step = run.steps.get()
    assert (run.status, run.retryable, step.failures, step.attempt) == ("failed", True, 2, 7)


def test_no_step_is_told_to_wait_for_ever(submit, monkeypatch):
    monkeypatch.setattr(moves, "MAX_FREE_ATTEMPTS", 3)
    run = submit([echo(max_attempts=2)])
    one = claim("compute", owner="w")
    for _ in range(2):
        moves.fail(one, fault(Busy("later", retry_after_s=0)))
        one = again(run)

    moves.fail(one, fault(Busy("later", retry_after_s=0)))

    run.refresh_from_db()
    assert (run.status, run.steps.get().attempt) == ("failed", 3)


def test_an_error_that_costs_no_try_and_cannot_pass_is_not_tried_again(submit):
    class Never(ToolFailed):
        uses_attempt = False

    run = submit([echo(max_attempts=5)])

    moves.fail(claim("compute", owner="w"), fault(Never("x")))

    run.refresh_from_db()
    assert (run.status, run.steps.get().attempt) == ("failed", 1)


@pytest.mark.parametrize("most", [1, 2, 10])
def test_tries_are_exactly_as_many_as_allowed(submit, most):
    run = submit([echo(max_attempts=most)])
    for n in range(1, most + 1):
        one = again(run)
        assert (one.attempt, one.failures) == (n, n - 1)
        moves.fail(one, fault(ModelUnavailable("x")))

    assert again(run) is None
    run.refresh_from_db()
    assert (run.status, run.reason, run.error["code"]) == ("failed", "tool", "model_unavailable")
    assert run.attempts.count() == most


def test_an_error_that_cannot_pass_is_not_tried_again(submit, step_of):
    run = submit([echo(max_attempts=5)])

    moves.fail(claim("compute", owner="w"), fault(ToolFailed("no", answer=42)))

    run.refresh_from_db()
    assert run.error == {"code": "tool_failed", "message": "no", "data": {"answer": 42}}
    assert (step_of(run, "a").error, step_of(run, "a").failures, run.retryable) == (run.error, 1, False)
    assert events(run)[-3:] == ["step.failed a", "run.cancelling", "run.failed"]


def test_the_errors_of_a_retry_are_kept_with_its_attempt(submit):
    run = submit([echo(max_attempts=2)])
    moves.fail(claim("compute", owner="w"), fault(StepTimeout("first")))
    moves.fail(again(run), fault(ToolUnavailable("second")))

    kept = list(run.attempts.values_list("number", "outcome", "error__message"))
    assert kept == [(1, "sleeping", "first"), (2, "failed", "second")]


def test_a_failure_lets_running_siblings_end_and_keeps_the_first_error(submit, step_of):
    run = submit([echo("a"), echo("b"), echo("c"), echo("d"), echo("e", depends_on=["b"])])
    a, b, c = (claim("compute", owner="w") for _ in range(3))

    moves.fail(a, fault(ToolFailed("first")))

    run.refresh_from_db()
    assert (run.status, run.reason, run.finished_at) == ("cancelling", "policy", None)
    assert statuses(run) == {"a": "failed", "b": "running", "c": "running", "d": "cancelled", "e": "cancelled"}

    late = complete(b, Result("late"))
    assert (late.next, list(late.lanes)) == (None, [])
    moves.fail(c, fault(ToolFailed("second")))

    run.refresh_from_db()
    assert (run.status, run.reason, run.error["message"], run.result) == ("failed", "tool", "first", None)
    assert (step_of(run, "b").output, step_of(run, "e").output) == ("late", None)
    assert statuses(run) == {"a": "failed", "b": "succeeded", "c": "cancelled", "d": "cancelled", "e": "cancelled"}
    assert events(run)[-4:] == ["step.cancelled e", "step.succeeded b", "step.cancelled c", "run.failed"]
    assert step_of(run, "c").error["message"] == "second"


def test_a_sibling_that_would_sleep_or_retry_in_a_stopping_run_ends(submit):
    run = submit([echo("a"), echo("b"), echo("c")])
    a, b, c = (claim("compute", owner="w") for _ in range(3))
    moves.fail(a, fault(ToolFailed("first")))

    moves.fail(b, fault(ToolUnavailable("second")))
    moves.sleep(c, delay_s=1)

    run.refresh_from_db()
    assert (run.status, run.error["message"]) == ("failed", "first")
    assert statuses(run) == {"a": "failed", "b": "cancelled", "c": "cancelled"}


def test_a_failure_that_may_be_passed_over_runs_through_a_deep_diamond(submit, worker):
    """Each level has one step that needs both parents and one that takes null for a missing one."""
    steps = [{"key": "x0", "tool": "test.fail", "on_error": "continue"}, echo("y0", 0)]
    for n in range(1, 12):
        parents = [f"x{n - 1}", f"y{n - 1}"]
        steps.append(echo(f"x{n}", [f"${{{parents[0]}}}", f"${{{parents[1]}}}"]))
        steps.append(echo(f"y{n}", [f"${{{parents[0]}}}", f"${{{parents[1]}}}"], if_failed="null"))
    run = worker.finish(submit(steps))

    kept = statuses(run)
    assert {kept[f"x{n}"] for n in range(1, 12)} == {"skipped"}
    assert {kept[f"y{n}"] for n in range(12)} == {"succeeded"}
    expected = 0
    for _ in range(1, 12):
        expected = [None, expected]
    assert (run.status, run.result) == ("succeeded", {"x11": None, "y11": expected})


def test_a_failure_passed_over_by_all_who_need_it_ends_the_run_well(submit, worker):
    run = worker.finish(submit([{"key": "a", "tool": "test.fail", "on_error": "continue"}, echo("b", "${a}")]))

    assert (run.status, run.result) == ("succeeded", {"b": None})
    assert events(run)[-3:] == ["step.failed a", "step.skipped b", "run.succeeded"]


class Unprintable:
    def __repr__(self):
        raise ValueError("not me")


HOSTILE = {
    "NUL": ToolFailed("a\0b", **{"k\0": "v\0"}),
    "lone surrogate": ToolFailed("\ud800", value="\udfff", **{"\ud800": 1}),
    "not a number": ToolFailed("x", value=math.nan, other=-math.inf),
    "not JSON": ToolFailed("x", value=Unprintable(), kinds={1, (2,)}, raw=b"\xff"),
    "deep": ToolFailed("x", value=json.loads("[" * 500 + "]" * 500)),
    "large": ToolFailed("x" * 5_000_000, value=["y" * 1_000] * 5_000),
    "no text": ToolFailed(42),
    "huge number": ToolFailed("x", value=10**5_000),
}


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("error", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_tool_says_its_error_is_can_be_written_down(submit, error, retryable):
    kind = ToolUnavailable if retryable else ToolFailed
    run = submit([echo("a", max_attempts=2), echo("b")])

    moves.fail(claim("compute", owner="w"), fault(kind(error.message, **error.data)))

    step = run.steps.get(key="a")
    assert step.status == ("sleeping" if retryable else "failed")
    assert step.error["code"] == kind.code
    assert isinstance(step.error["message"], str)
    assert len(json.dumps(step.error)) < 40_000
    assert "\0" not in json.dumps(step.error)


def test_a_bug_in_a_handler_fails_the_step_and_the_worker_goes_on(submit, worker):
    broken, fine = submit([{"key": "a", "tool": "test.bug"}]), submit([echo()])

    worker.work()

    broken.refresh_from_db(), fine.refresh_from_db()
    assert (broken.status, broken.error["code"], fine.status) == ("failed", "tool_failed", "succeeded")
    assert AgentSysError.code == "internal"
