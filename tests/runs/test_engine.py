"""A run from submission to result, by a worker in this process on the real database."""

import pytest

from tests.support import tools
from tests.support.worker import events, statuses


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def test_a_chain_runs_in_order_and_its_last_output_is_the_result(submit, worker):
    run = submit([echo("a", {"n": 1}), echo("b", "${a.n}"), echo("c", "got ${b}")])

    worker.finish(run)

    assert (run.status, run.reason, run.result) == ("succeeded", "complete", {"c": "got 1"})
    assert events(run) == [
        "run.queued", "run.running", "step.started a", "step.succeeded a", "step.started b", "step.succeeded b",
        "step.started c", "step.succeeded c", "run.succeeded",
    ]  # fmt: skip
    assert (run.steps_done, run.tool_calls, run.open_steps, run.active_steps) == (3, 3, 0, 0)
    assert run.attempts.count() == 3


def test_branches_join_and_the_answer_template_is_the_result(submit, worker):
    run = submit(
        [echo("a", 1), echo("b", 2, depends_on=["a"]), echo("c", 3, depends_on=["a"]), echo("d", ["${b}", "${c}"])],
        answer={"sum": "${d}", "text": "b=${b}"},
    )

    worker.finish(run)

    assert run.result == {"sum": [2, 3], "text": "b=2"}


def test_a_step_in_another_lane_waits_for_its_own_worker(submit, worker):
    run = submit([echo("a", 1), {"key": "b", "tool": "test.far", "arguments": {"value": "${a}"}}])

    assert worker.drain("compute") == 1
    assert statuses(run) == {"a": "succeeded", "b": "ready"}
    assert worker.drain("network") == 1
    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"b": 1})


def test_a_failed_step_fails_the_run_and_cancels_the_rest(submit, worker):
    run = submit([{"key": "a", "tool": "test.fail"}, echo("b", depends_on=["a"]), echo("c")])

    worker.finish(run)

    assert (run.status, run.reason, run.error["code"]) == ("failed", "tool", "tool_failed")
    assert statuses(run) == {"a": "failed", "b": "cancelled", "c": "cancelled"}


def test_on_error_continue_skips_those_who_need_it_and_gives_null_to_those_who_do_not(submit, worker):
    run = submit(
        [
            {"key": "a", "tool": "test.fail", "on_error": "continue"},
            echo("b", "${a}"),
            echo("c", "${b}"),
            echo("d", "${a}", if_failed="null"),
            echo("e", ["${c}", "${d}"], if_failed="null"),
        ]
    )

    worker.finish(run)

    assert statuses(run) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "succeeded", "e": "succeeded"}
    assert (run.status, run.result) == ("succeeded", {"e": [None, None]})


def test_an_unavailable_tool_is_tried_again_with_the_same_key(submit, worker):
    tools.calls.clear()
    run = submit([{"key": "a", "tool": "test.flaky", "arguments": {"failures": 2}}])

    worker.finish(run)

    assert run.status == "succeeded"
    step = run.steps.get()
    assert (step.attempt, step.failures) == (3, 2)
    assert len(set(tools.calls)) == 1
    assert events(run).count("step.retrying a") == 2


def test_tries_end_with_max_attempts(submit, worker):
    run = submit([{"key": "a", "tool": "test.flaky", "arguments": {"failures": 9}, "max_attempts": 3}])

    worker.finish(run)

    assert (run.status, run.error["code"], run.retryable) == ("failed", "tool_unavailable", True)
    step = run.steps.get()
    assert (step.attempt, step.failures) == (3, 3)


def test_an_unexpected_exception_fails_the_step_and_keeps_its_text_out_of_the_row(submit, worker):
    run = submit([{"key": "a", "tool": "test.bug"}])

    worker.finish(run)

    assert run.status == "failed"
    assert "secret-in-a-traceback" not in str(run.error)


@pytest.mark.parametrize("how", ["unavailable", "unknown"])
def test_an_unsafe_call_that_may_have_happened_waits_for_somebodys_word(submit, worker, how):
    tools.calls.clear()
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": how}}, echo("b", "${a}")])

    worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")
    assert statuses(run) == {"a": "waiting", "b": "blocked"}
    assert len(tools.calls) == 1


def test_an_unsafe_call_that_never_left_is_tried_again(submit, worker):
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "not_sent"}, "max_attempts": 2}])

    worker.finish(run)

    assert run.error["code"] == "tool_unavailable"


def test_a_wait_sleeps_in_the_database_and_uses_up_no_try(submit, worker):
    run = submit([{"key": "a", "kind": "wait", "arguments": {"seconds": 0.05}}, echo("b", depends_on=["a"])])

    worker.drain("system")

    assert statuses(run) == {"a": "sleeping", "b": "blocked"}
    worker.finish(run)
    assert run.steps.get(key="a").failures == 0
