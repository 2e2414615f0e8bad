"""A call that nobody saw the end of and that can be asked for: its check decides, and a person where that cannot."""

import pytest

from agentsys.core.errors import LeaseLost, OutcomeUnknown, ToolFailed, ToolRateLimited, ToolUnavailable
from agentsys.runs import control, services
from agentsys.runs.store import claims, moves, sweeps, unknown, verdicts
from agentsys.runs.store.claims import Result, claim
from agentsys.tools import registry
from tests.support import tools
from tests.support.outages import lose_commit
from tests.support.rows import expire, photograph, sql, value, wake_now
from tests.support.worker import events, statuses

NOT_DONE = {"outcome": "not_done"}
UNKNOWN = {"outcome": "unknown"}


def transfer(key="a", how="ok", **fields):
    return {"key": key, "tool": "test.transfer", "arguments": {"how": how}, **fields}


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


@pytest.fixture(autouse=True)
def called():
    """Gives the keys of the transfers that were made."""
    tools.calls.clear()
    tools.landed.clear()
    tools.verdicts.clear()
    yield lambda: [key for tool, key in tools.calls if tool == "charge"]
    tools.verdicts.clear()


def asked():
    """What the check was asked."""
    return [about for tool, about in tools.calls if tool == "check"]


def outcomes(run):
    return list(run.attempts.order_by("started_at").values_list("outcome", flat=True))


def die_after_gate(run, *, why="dead", land=False):
    """A worker begins the call and is not heard of again."""
    held = claim("compute", owner="gone")
    assert claims.open_gate(held)
    if land:
        tools.landed.add(held.idempotency_key)
    lanes = list(moves.give_back(held.id, run.pk, held.claim_token, why=why))
    return held, lanes


# --- What the check says ---------------------------------------------------------------
def test_done_is_the_steps_result_and_the_call_is_not_made_again(submit, worker, step_of, called):
    run = submit([transfer(how="landed"), echo("b", "${a}")])
    worker.finish(run)

    assert (run.status, run.result, len(called()), run.tool_calls) == ("succeeded", {"b": "found"}, 1, 2)
    assert asked() == [(called()[0], "landed")]
    step = step_of(run, "a")
    assert (step.attempt, step.failures, step.crashes) == (2, 1, 0)
    assert step.effect_started_at < step.claimed_at  # of the call, not of its check
    assert outcomes(run)[:2] == ["unknown", "succeeded"]
    told = [e for e in events(run) if e.endswith(" a")]
    assert told == [
        "step.started a", "step.unknown a", "step.started a", "step.verified a", "step.succeeded a",
    ]  # fmt: skip


def test_done_as_the_last_step_ends_the_run(submit, worker):
    run = worker.finish(submit([transfer(how="landed")]))

    assert (run.status, run.result) == ("succeeded", {"a": "found"})


def test_not_done_calls_again_with_the_same_key(submit, worker, step_of, called):
    run = submit([transfer(how="lost", max_attempts=3)])
    worker.drain("compute")
    sql('UPDATE runs_step SET arguments = \'{"how": "ok"}\' WHERE run_id = %s', run.pk)

    worker.finish(run)

    step = step_of(run, "a")
    assert (run.status, run.result, step.attempt, step.failures) == ("succeeded", {"a": "transferred"}, 2, 1)
    assert len(called()) == 2
    assert len({*called(), *(key for key, _ in asked())}) == 1
    assert step.claimed_at < step.effect_started_at
    (verdict,) = run.events.filter(type="step.verified")
    assert verdict.data == {"outcome": "not_done", "attempt": 2}


def test_a_call_that_never_happens_uses_up_its_tries_and_fails(submit, worker, step_of, called):
    run = worker.finish(submit([transfer(how="lost", max_attempts=3)]))

    step = step_of(run, "a")
    assert (run.status, run.reason, step.error["code"]) == ("failed", "tool", "tool_failed")
    assert (len(called()), len(asked()), step.failures, step.attempt) == (3, 3, 3, 4)
    assert "tries are used up" in step.error["message"]


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_a_check_that_cannot_tell_is_asked_a_few_times_and_then_a_person(submit, worker, step_of, called, max_attempts):
    run = submit([transfer(how="lost", max_attempts=max_attempts)])
    tools.verdicts += [UNKNOWN] * 2 + [ToolUnavailable("away")] * 2 + [OutcomeUnknown("who knows")]
    for _ in range(unknown.MAX_CHECKS + 1):
        worker.work(sleepers=True)
        wake_now(run)

    run.refresh_from_db()
    assert (run.status, run.reason, step_of(run, "a").failures) == ("waiting", "outcome_unknown", 1)
    assert (len(called()), len(asked())) == (1, unknown.MAX_CHECKS)
    assert outcomes(run) == ["unknown", *["sleeping"] * 4, "unverified"]

    services.resolve(run, "a", outcome="done", result=9)
    run.refresh_from_db()
    assert (run.status, run.result, len(called())) == ("succeeded", {"a": 9}, 1)


def test_a_person_who_says_not_done_has_it_called_and_checked_again(submit, worker, step_of, called):
    run = submit([transfer(how="lost", max_attempts=1)])
    tools.verdicts += [ToolFailed("no such account")]
    worker.drain("compute")
    wake_now(run), worker.work(sleepers=True)
    services.resolve(run, "a", outcome="not_done")

    worker.finish(run)

    assert (run.status, step_of(run, "a").failures, len(called()), len(asked())) == ("failed", 1, 2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        None, True, "done", [], {}, {"outcome": "maybe"}, {"outcome": ["done"]}, {"outcome": "done", "note": 1},
        ToolFailed("refused"), KeyError("a bug"), SystemExit(3),
    ],
    ids=repr,
)  # fmt: skip
def test_a_check_that_gives_no_verdict_leaves_it_to_a_person_at_once(submit, worker, called, answer):
    run = submit([transfer(how="lost")])
    tools.verdicts += [answer]
    worker.drain("compute")
    wake_now(run), worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "outcome_unknown")
    assert (len(called()), len(asked()), outcomes(run)) == (1, 1, ["unknown", "unverified"])


def test_a_check_that_is_asked_to_wait_uses_up_none_of_its_tries(submit, worker, step_of):
    run = submit([transfer(how="landed")])
    tools.verdicts += [ToolRateLimited("later", retry_after_s=0)] * 7
    worker.finish(run)

    step = step_of(run, "a")
    assert (run.status, step.attempt, step.checks, step.failures) == ("succeeded", 9, 0, 1)


def test_an_error_that_says_that_nothing_was_sent_is_believed_of_the_call_and_not_of_its_check(submit, worker, called):
    run = submit([transfer(how="lost")])
    tools.verdicts += [ToolUnavailable("the question never left", sent=False), {"outcome": "done", "result": 1}]

    worker.finish(run)

    assert (run.result, len(called()), len(asked())) == ({"a": 1}, 1, 2)


def test_a_check_that_has_gone_leaves_it_to_a_person(submit, worker, monkeypatch):
    run = submit([transfer(how="lost")])
    worker.drain("compute")
    monkeypatch.delitem(registry._tools, "test.transferred")
    wake_now(run), worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, run.reason, run.steps.get().error["code"]) == ("waiting", "outcome_unknown", "outcome_unknown")


def test_a_hostile_result_is_made_safe(submit, worker):
    run = submit([transfer(how="lost")])
    tools.verdicts += [{"outcome": "done", "result": {"\0": ["\ud800", float("nan"), b"x"]}}]

    assert worker.finish(run).result == {"a": {"\ufffd": ["\ufffd", None, "x"]}}


# --- Workers that end --------------------------------------------------------------------
@pytest.mark.parametrize("landed", [False, True])
def test_a_worker_that_dies_in_the_call_leaves_it_to_the_check(submit, worker, step_of, called, landed):
    run = submit([transfer()])
    held, lanes = die_after_gate(run, land=landed)
    assert (lanes, statuses(run), step_of(run, "a").reason) == (["compute"], {"a": "ready"}, "verify")

    worker.finish(run)

    step = step_of(run, "a")
    assert (run.status, run.result) == ("succeeded", {"a": "found" if landed else "transferred"})
    assert (step.attempt, step.failures, step.crashes) == (2, 0, 1)
    assert called() == ([] if landed else [held.idempotency_key])


@pytest.mark.parametrize("why", ["lease", "released"])
def test_while_a_worker_may_still_be_calling_the_check_waits_until_the_call_is_over(submit, step_of, settings, why):
    settings.LEASE_S = 1.0
    run = submit([transfer()])
    held = claim("compute", owner="cut-off")
    assert claims.open_gate(held)
    expire(run)

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why=why)) == []

    step = step_of(run, "a")
    assert (step.status, step.reason, step.crashes) == ("sleeping", "verify", int(why == "lease"))
    assert (step.available_at - step.effect_started_at).total_seconds() == 5 + unknown.GRACE_S
    sweeps.wake_sleepers()
    assert claim("compute", owner="w") is None


def test_a_call_whose_time_was_over_already_is_checked_at_once(submit, settings):
    settings.LEASE_S = 1.0
    run = submit([transfer()])
    held = claim("compute", owner="cut-off")
    assert claims.open_gate(held)
    sql("UPDATE runs_step SET effect_started_at = effect_started_at - interval '1 minute'")
    expire(run)

    assert list(moves.give_back(held.id, run.pk, held.claim_token, why="lease")) == ["compute"]


def test_while_a_check_is_due_the_gate_is_shut_and_a_stale_worker_changes_nothing(submit, step_of):
    run = submit([transfer()])
    stale, _ = die_after_gate(run)
    fresh = claim("compute", owner="w")
    before = photograph()

    assert not claims.open_gate(fresh)
    assert not claims.open_gate(stale)
    for late in (
        lambda: verdicts.not_done(stale),
        lambda: verdicts.done(stale, Result("late")),
        lambda: moves.fail(stale, moves.Fault(ToolFailed("late"), "tool")),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert list(moves.give_back(stale.id, run.pk, stale.claim_token, why="lease")) == []
    assert photograph() == before

    verdicts.not_done(fresh)
    assert [claims.open_gate(stale), claims.open_gate(fresh), claims.open_gate(fresh)] == [False, True, False]


@pytest.mark.parametrize("why", ["dead", "released"])
def test_a_worker_that_dies_in_the_check_leaves_the_check_to_the_next(submit, worker, step_of, called, why):
    run = submit([transfer()])
    die_after_gate(run, land=True)
    checking = claim("compute", owner="gone, too")
    sql("UPDATE runs_step SET effect_started_at = effect_started_at - interval '1 minute'")

    moves.give_back(checking.id, run.pk, checking.claim_token, why=why)

    step = step_of(run, "a")
    assert (step.status, step.reason, step.crashes, step.checks) == ("ready", "verify", 1 + (why == "dead"), 0)
    worker.finish(run)
    assert (run.result, called()) == ({"a": "found"}, [])


def test_a_step_that_has_ended_three_workers_in_the_dark_is_a_persons(submit, step_of):
    run = submit([transfer()])
    for _ in range(2):
        die_after_gate(run)
        verdicts.not_done(checking := claim("compute", owner="w"))
        moves.give_back(checking.id, run.pk, checking.claim_token, why="released")
    held = claim("compute", owner="w")
    assert claims.open_gate(held)
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")

    run.refresh_from_db()
    step = step_of(run, "a")
    assert (run.status, run.reason, step.crashes) == ("waiting", "outcome_unknown", 2)


def test_a_worker_that_dies_between_no_and_the_next_call_costs_nothing(submit, worker, step_of, called):
    run = submit([transfer()])
    die_after_gate(run)
    verdicts.not_done(checking := claim("compute", owner="w"))
    moves.give_back(checking.id, run.pk, checking.claim_token, why="released")
    assert (step_of(run, "a").reason, asked()) == ("", [])

    worker.finish(run)

    assert (run.result, len(called()), asked()) == ({"a": "transferred"}, 1, [])


# --- Answers that are lost ---------------------------------------------------------------
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("verdict", [NOT_DONE, {"outcome": "done", "result": 1}], ids=["not_done", "done"])
def test_a_verdict_whose_commit_is_unknown_is_recorded_once(submit, worker, called, monkeypatch, committed, verdict):
    run = submit([transfer()])
    die_after_gate(run)
    tools.verdicts += [verdict]
    with monkeypatch.context() as outage:
        lost = lose_commit(outage, committed=committed)
        worker.drain("compute")
    worker.finish(run)

    assert lost == [committed]

    assert run.status == "succeeded"
    assert run.events.filter(type="step.verified").count() == 1
    assert len(called()) == int(verdict == NOT_DONE)


# --- Beside everything else ----------------------------------------------------------------
def test_a_cancel_while_a_check_is_due_ends_the_run_and_says_what_is_not_known(submit, worker, called):
    run = submit([transfer(how="lost")])
    worker.drain("compute")

    services.cancel(run)
    wake_now(run), worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, statuses(run), asked()) == ("cancelled", {"a": "cancelled"}, [])
    assert run.steps.get().error["code"] == "outcome_unknown"


def test_a_cancel_during_the_check_makes_no_further_call(submit, worker, called, monkeypatch):
    run = submit([transfer(how="lost")])
    worker.drain("compute")
    real = verdicts.not_done

    def cancelled_meanwhile(claim):
        services.cancel(run)
        real(claim)

    monkeypatch.setattr(verdicts, "not_done", cancelled_meanwhile)
    wake_now(run), worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, len(called()), len(asked())) == ("cancelled", 1, 1)


def test_a_paused_run_asks_nothing_until_it_is_resumed(submit, worker, called):
    run = submit([transfer(how="landed")])
    worker.drain("compute")
    control.pause(run, user=None)
    wake_now(run), worker.work(sleepers=True)
    assert (statuses(run), asked()) == ({"a": "queued"}, [])

    run.refresh_from_db()
    control.resume(run, user=None)
    worker.finish(run)

    assert (run.result, len(called())) == ({"a": "found"}, 1)


def test_an_unsafe_call_is_never_checked(submit, worker):
    run = submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unavailable"}}])
    worker.work(sleepers=True)

    run.refresh_from_db()
    assert (run.status, run.reason, value("SELECT checks FROM runs_step")) == ("waiting", "outcome_unknown", 0)
