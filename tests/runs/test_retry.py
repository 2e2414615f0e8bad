"""A retry is a new run: what has succeeded is kept and never executed again, the rest starts anew."""

import pytest

from agentsys.core.errors import IdempotencyKeyReused, InvalidInput, InvalidTransition
from agentsys.runs import control, services
from agentsys.runs.models import Payload, Run
from agentsys.runs.store import claims, moves
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from tests.support import tools as test_tools
from tests.support.rows import photograph, sql
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


@pytest.fixture(autouse=True)
def _no_calls():
    test_tools.calls.clear()


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def flaky(key, **fields):
    """Fails in the run in which ``test.fail`` is; a retry's first try of it fails as well."""
    return {"key": key, "tool": "test.fail", **fields}


def mended(run, key):
    """The tool that a step calls is repaired between a run and its retry."""
    sql(
        "UPDATE runs_step SET tool = 'test.echo', arguments = '{\"value\": 1}' WHERE run_id = %s AND key = %s",
        run.pk,
        key,
    )


def retried(run, **how):
    made, replayed = control.retry(run, **how)
    assert not replayed
    return made


def test_a_retry_keeps_what_succeeded_and_does_the_rest_anew(submit, worker, step_of):
    steps = [echo("a", 5), {"key": "pay", "tool": "test.charge", "depends_on": ["a"]}, flaky("b", depends_on=["pay"])]
    failed = worker.finish(submit([*steps, echo("c", "${a}", depends_on=["b"])], labels={"x": "y"}, files={"f": b"1"}))
    assert statuses(failed) == {"a": "succeeded", "pay": "succeeded", "b": "failed", "c": "cancelled"}
    before, charged = photograph(), list(test_tools.calls)

    run = retried(failed)

    assert [row for row in photograph()["runs_step"] if row["run_id"] == str(failed.pk)] == before["runs_step"]
    assert (run.status, run.parent_run_id, run.forked_from_step) == ("queued", failed.pk, "b")
    assert (run.agent_version_id, run.labels, run.steps_done, run.tool_calls) == (
        failed.agent_version_id,
        {"x": "y"},
        0,
        0,
    )
    assert statuses(run) == {"a": "succeeded", "pay": "succeeded", "b": "ready", "c": "blocked"}
    assert (step_of(run, "a").output, step_of(run, "pay").output, step_of(run, "a").attempt) == (5, "charged", 0)
    assert events(run) == ["run.queued", "step.succeeded a", "step.succeeded pay"]
    assert run.events.get(seq=1).data == {"retry_of": str(failed.pk)}
    assert list(run.files.values_list("name", flat=True)) == ["f"]
    mended(run, "b")
    done = worker.finish(run)
    assert (done.status, done.result, done.tool_calls, done.steps_done) == ("succeeded", {"c": 5}, 2, 2)
    assert [call for call in test_tools.calls if call[0] == "charge"] == [c for c in charged if c[0] == "charge"]


def test_a_retry_of_a_cancelled_run_goes_on(submit, worker):
    run = submit([echo("a"), echo("b", depends_on=["a"]), echo("c", depends_on=["b"])])
    complete(claim("compute", owner="w"), Result("first"), claim_next=False)
    services.cancel(run)

    again = retried(run)

    assert statuses(again) == {"a": "succeeded", "b": "ready", "c": "blocked"}
    assert worker.finish(again).status == "succeeded"


def test_a_retry_can_fail_and_be_retried(submit, worker):
    first = worker.finish(submit([echo("a"), flaky("b", depends_on=["a"])]))
    second = worker.finish(retried(first))
    assert (second.status, second.error["code"]) == ("failed", "tool_failed")

    third = retried(second)

    assert third.parent_run_id == second.pk
    assert statuses(third) == {"a": "succeeded", "b": "ready"}
    services.cancel(third)


def test_a_failure_that_a_later_step_has_taken_for_null_stays_and_one_that_nobody_used_is_tried_again(submit, worker):
    steps = [
        flaky("a", on_error="continue"), echo("b", "${a}", if_failed="null"),
        flaky("x", on_error="continue"), echo("y", "${x}"), flaky("z", depends_on=["b"]),
    ]  # fmt: skip
    run = worker.finish(submit(steps))
    assert statuses(run) == {"a": "failed", "b": "succeeded", "x": "failed", "y": "skipped", "z": "failed"}

    again = retried(run)

    assert statuses(again) == {"a": "failed", "b": "succeeded", "x": "ready", "y": "blocked", "z": "ready"}
    worker.finish(again)


def test_a_call_whose_outcome_nobody_knows_is_not_made_again_by_a_retry(submit, worker, step_of):
    run = submit([echo("a"), {"key": "pay", "tool": "test.charge", "depends_on": ["a"]}, echo("b", "${pay}")])
    worker_claim = claim("compute", owner="w")
    pay = complete(worker_claim, Result(1)).next
    assert claims.open_gate(pay)
    services.cancel(run)
    moves.give_back(pay.id, run.pk, pay.claim_token, why="dead")

    again = retried(run)

    assert (again.status, again.reason) == ("waiting", "outcome_unknown")
    assert statuses(again) == {"a": "succeeded", "pay": "waiting", "b": "blocked"}
    assert worker.work() == 0
    assert events(again)[-2:] == ["step.waiting pay", "run.waiting"]
    control.pause(again)
    assert control.resume(again).status == "waiting"
    services.resolve(again, "pay", outcome="done", result="paid")
    assert worker.finish(again).result == {"b": "paid"}
    assert test_tools.calls.count(("charge", step_of(again, "pay").idempotency_key)) == 0


def test_a_run_whose_plan_could_not_be_made_is_planned_anew(submit, worker):
    run = worker.finish(submit(goal="Levitate"))
    assert run.status == "failed"

    again = retried(run)

    assert statuses(again) == {"plan.1": "ready"}
    assert worker.finish(again).status == "failed"


def test_a_plan_that_was_made_is_kept(submit, worker):
    run = submit(goal='Count the words in "one two three"')
    worker.drain("model")
    services.cancel(run)
    assert statuses(run)["plan.1"] == "succeeded"

    again = retried(run)

    run.refresh_from_db()
    assert (again.plan_version, again.answer) == (1, run.answer)
    assert statuses(again)["plan.1"] == "succeeded"
    done = worker.finish(again)
    assert (done.status, done.model_calls) == ("succeeded", 0)


def test_a_run_that_failed_for_its_result_alone_writes_its_answer_again_or_cannot_be_retried(submit, worker):
    schema = {"type": "object", "properties": {"b": {"type": "integer"}}}
    fixed = worker.finish(submit([echo("b", "text")], output_schema=schema))
    assert (fixed.status, statuses(fixed)) == ("failed", {"b": "succeeded"})
    before = photograph()

    with pytest.raises(InvalidTransition, match="fork"):
        control.retry(fixed)

    assert photograph() == before


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "paused", "cancelling", "succeeded"])
def test_only_a_failed_or_cancelled_run_is_retried(submit, worker, state):
    how = {"waiting": {"how": "unknown"}}.get(state, {})
    run = submit([{"key": "a", "tool": "test.charge", "arguments": how}])
    held = claim("compute", owner="w") if state in ("running", "cancelling") else None
    if state in ("waiting", "succeeded"):
        worker.work()
    if state == "paused":
        control.pause(run)
    if state == "cancelling":
        services.cancel(run)
    run.refresh_from_db()
    assert run.status == state
    before = photograph()

    with pytest.raises(InvalidTransition):
        control.retry(run)

    assert photograph() == before
    if held:
        moves.give_back(held.id, run.pk, held.claim_token, why="released")


def test_a_deadline_begins_anew(submit, worker):
    run = worker.finish(submit([flaky("a")], deadline_s=500))

    again = retried(run)

    assert abs((again.deadline_at - again.created_at).total_seconds() - 500) < 1
    assert again.deadline_at > run.deadline_at
    services.cancel(again)


def test_the_same_key_gives_the_same_retry_and_another_request_with_it_is_refused(submit, worker):
    run, other = worker.finish(submit([flaky("a")])), worker.finish(submit([flaky("a")], key="mine"))
    first, _ = control.retry(run, idempotency_key="k")
    before = photograph()

    assert control.retry(run, idempotency_key="k") == (first, True)
    with pytest.raises(IdempotencyKeyReused):
        control.retry(other, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        control.retry(run, idempotency_key="mine")
    with pytest.raises(InvalidInput):
        control.retry(run, idempotency_key="\0")

    assert photograph() == before
    services.cancel(first)


def test_two_retries_with_one_key_at_once_are_one_run(submit, worker):
    for n in range(10):
        run = worker.finish(submit([flaky("a")]))

        answers = in_parallel(*[lambda run=run, n=n: control.retry(run, idempotency_key=f"k{n}")] * 3)

        assert len({made.pk for made, _ in answers}) == 1
        assert sorted(replayed for _, replayed in answers) == [False, True, True]
        assert Run.objects.filter(parent_run=run).count() == 1


def test_a_wide_run_is_retried_in_one_go(submit, worker):
    steps = [*(echo(f"s{n}", n) for n in range(300)), flaky("z", depends_on=[f"s{n}" for n in range(300)])]
    run = worker.finish(submit(steps))

    again = retried(run)

    assert again.event_seq == 301
    worker.finish(again)


def test_a_retry_shares_its_files_contents_and_copies_none(submit, worker):
    content = b"x" * 100_000
    run = worker.finish(submit([echo("a"), {"key": "b", "tool": "test.fail"}], files={"f": content, "g": content}))
    before = Payload.objects.count()

    again, _ = control.retry(run)

    assert Payload.objects.count() == before
    assert set(again.files.values_list("payload_id", flat=True)) == set(run.files.values_list("payload_id", flat=True))
