"""A fork runs again from one step, with overrides; what it does not touch is kept, and no effect is made twice."""

import pytest

from agentsys.core.errors import IdempotencyKeyReused, InvalidInput, PayloadTooLarge
from agentsys.runs import control, forks, services
from agentsys.runs.forks import Fork
from agentsys.runs.store import claims, moves
from agentsys.runs.store.claims import claim
from tests.support import tools as test_tools
from tests.support.rows import photograph
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses


@pytest.fixture(autouse=True)
def _no_calls():
    test_tools.calls.clear()


def echo(key="a", value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def charge(key="pay", how="ok", **fields):
    return {"key": key, "tool": "test.charge", "arguments": {"how": how}, **fields}


def charges():
    return [key for name, key in test_tools.calls if name == "charge"]


def forked(run, from_step, **how):
    made, replayed = forks.fork(run, Fork(from_step, **how))
    assert not replayed
    return made


def faults_of(run, from_step, **how):
    before = photograph()
    with pytest.raises(InvalidInput) as caught:
        forks.fork(run, Fork(from_step, **how))
    assert photograph() == before
    return [(fault["path"], fault["code"]) for fault in caught.value.data["errors"]]


@pytest.fixture
def done(submit, worker):
    """a -> b -> c, and x beside them; b and c use the input."""
    steps = [echo("a", 1), echo("b", {"a": "${a}", "in": "${input}"}), echo("c", "${b}"), echo("x", 9)]
    return worker.finish(
        submit(steps, input=5, files={"f.txt": b"text"}, labels={"team": "red"}, answer=["${c}", "${x}"])
    )


def test_a_fork_keeps_what_is_not_downstream_and_does_the_rest_again(done, worker, step_of):
    run = forked(done, "b")

    assert (run.status, run.parent_run_id, run.forked_from_step) == ("queued", done.pk, "b")
    assert (run.effects, run.labels, run.depth, run.parent_step) == ("recorded", {"team": "red"}, 0, None)
    assert statuses(run) == {"a": "succeeded", "b": "ready", "c": "blocked", "x": "succeeded"}
    assert events(run) == ["run.queued", "step.succeeded a", "step.succeeded x"]
    assert run.events.get(seq=1).data == {"fork_of": str(done.pk), "from_step": "b", "effects": "recorded"}
    assert worker.finish(run).result == done.result
    assert (run.tool_calls, [f.name for f in run.files.all()]) == (2, ["f.txt"])


def test_overrides_of_input_model_and_arguments(done, worker, step_of):
    with_input = worker.finish(forked(done, "b", input=(6,)))
    with_null = worker.finish(forked(done, "b", input=(None,)))
    with_arguments = worker.finish(forked(done, "b", arguments={"c": {"value": ["${x}", "${input}"]}}))
    with_model = forked(done, "a", model=("offline",))

    assert with_input.result == [{"a": 1, "in": 6}, 9]
    assert with_null.result == [{"a": 1, "in": None}, 9]
    assert with_arguments.result == [[9, 5], 9]
    assert step_of(with_arguments, "c").depends_on == ["b", "x"]
    assert with_model.model == "offline"
    services.cancel(with_model)


def test_a_run_is_forked_in_any_state(submit, worker):
    run = submit([echo("a"), echo("b", depends_on=["a"]), echo("c", depends_on=["b"])])
    queued = forked(run, "b")
    held = claim("compute", owner="w")
    running = forked(run, "c")
    control.pause(run)
    paused = forked(run, "a")
    services.cancel(run)
    stopping = forked(run, "a")

    assert statuses(queued) == statuses(running) == statuses(paused) == {"a": "ready", "b": "blocked", "c": "blocked"}
    moves.give_back(held.id, held.run_id, held.claim_token, why="released")
    for one in (queued, running, paused, stopping):
        assert worker.finish(one).status == "succeeded"


# --- Effects ------------------------------------------------------------------------------
def test_recorded_effects_are_replayed_and_not_made_again(submit, worker, step_of):
    run = worker.finish(submit([echo("a", 1), charge(depends_on=["a"]), echo("z", "${pay}")]))
    assert len(charges()) == 1

    again = worker.finish(forked(run, "a"))

    assert (again.status, again.result, len(charges())) == ("succeeded", {"z": "charged"}, 1)
    assert step_of(again, "pay").effect == "recorded"
    twice = worker.finish(forked(again, "a"))
    assert (twice.status, len(charges())) == ("succeeded", 1)


def test_live_effects_are_made_again_under_keys_of_their_own(submit, worker, step_of):
    run = worker.finish(submit([charge()]))

    live = worker.finish(forked(run, "pay", effects="live"))
    of_recorded = worker.finish(forked(worker.finish(forked(run, "pay")), "pay", effects="live"))

    keys = [step_of(one, "pay").idempotency_key for one in (run, live, of_recorded)]
    assert charges() == keys
    assert step_of(of_recorded, "pay").effect == "unsafe"


def test_another_call_than_the_recorded_one_fails_and_says_what_to_do(submit, worker, step_of):
    run = worker.finish(submit([echo("a", "ok"), charge(how="${a}")]))

    overridden = worker.finish(forked(run, "pay", arguments={"pay": {"how": "fine"}}))
    other_input = worker.finish(forked(run, "a", arguments={"a": {"value": "else"}}))

    for one in (overridden, other_input):
        error = step_of(one, "pay").error
        assert (one.status, error["code"]) == ("failed", "effect_recorded")
        assert "live" in error["message"]
    assert len(charges()) == 1


def test_an_effect_that_the_original_never_had_is_made(submit, worker):
    run = worker.finish(submit([{"key": "a", "tool": "test.fail"}, charge(depends_on=["a"])]))
    assert charges() == []

    again = worker.finish(forked(run, "a", arguments={"a": {"message": "again"}}))
    assert again.status == "failed"
    queued = submit([echo("a"), charge(depends_on=["a"])])
    services.cancel(queued)
    assert worker.finish(forked(queued, "a")).status == "succeeded"
    assert len(charges()) == 1


def test_a_call_in_flight_is_not_made_again_beside_it(submit, worker):
    run = submit([charge(), echo("b")])
    held = claim("compute", owner="w")
    assert claims.open_gate(held)

    again = forked(run, "b")

    assert statuses(again) == {"pay": "waiting", "b": "ready"}
    worker.work()
    services.resolve(again, "pay", outcome="done", result="yes")
    again.refresh_from_db()
    assert again.status == "succeeded"
    services.cancel(run)
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")


def test_a_child_run_is_replayed_too(submit, worker):
    delegate = {"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [charge()]}, "input": 1}}
    run = worker.finish(submit([delegate]))

    again = worker.finish(forked(run, "d"))
    assert (again.status, again.result, again.children.count()) == ("succeeded", run.result, 0)
    live = worker.finish(forked(run, "d", effects="live"))
    assert (live.status, live.children.count(), len(charges())) == ("succeeded", 1, 2)


def test_a_retry_of_a_fork_still_replays(submit, worker):
    run = worker.finish(submit([charge(), {"key": "b", "tool": "test.fail", "depends_on": ["pay"]}]))
    fork = forked(run, "pay")
    services.cancel(fork)

    again, _ = control.retry(fork)

    worker.finish(again)
    assert (statuses(again)["pay"], len(charges())) == ("succeeded", 1)


# --- Plans --------------------------------------------------------------------------------
def test_from_a_step_of_a_plan_the_plan_is_kept_and_from_the_planning_step_made_anew(submit, worker):
    run = worker.finish(submit(goal='Count the words in "one two three"'))
    step = run.steps.exclude(kind="plan").first().key

    kept = forked(run, step)
    anew = forked(run, "plan.1")

    assert (statuses(kept)["plan.1"], kept.plan_version, kept.answer) == ("succeeded", 1, run.answer)
    assert statuses(anew) == {"plan.1": "ready"}
    assert worker.finish(kept).result == worker.finish(anew).result == run.result
    assert (kept.model_calls, anew.model_calls) == (0, 1)


# --- Refusals -----------------------------------------------------------------------------
def test_all_faults_are_told_at_once(done):
    arguments = {"nobody": {}, "a": {"value": 1}, "c": "text"}

    assert sorted(faults_of(done, "b", arguments=arguments, model=("nonsense model",), effects="maybe")) == [
        ("arguments.a", "step_kept"),
        ("arguments.c", "type"),
        ("arguments.nobody", "unknown_step"),
        ("effects", "bad_value"),
        ("model", "bad_value"),
    ]


def test_overridden_arguments_are_checked_as_in_a_plan(done):
    bad = {"b": {"vale": 1, "value": "${nobody}"}, "c": {"value": "${c}"}}

    assert sorted(faults_of(done, "b", arguments=bad)) == [
        ("arguments.b.vale", "argument_unknown"),
        ("arguments.b.value", "unknown_reference"),
        ("arguments.c.value", "self_dependency"),
    ]
    assert faults_of(done, "a", arguments={"a": {"value": "${c}"}}) == [("arguments.a.depends_on", "cycle")]


@pytest.mark.parametrize("key", ["", "nobody", "a b", "\0", "\ud800", "x" * 70])
def test_a_step_that_is_not_there_cannot_be_forked_from(done, key):
    assert faults_of(done, key) == [("from_step", "unknown_step")]


def test_a_planning_step_has_no_arguments(submit, worker):
    run = worker.finish(submit(goal='Count the words in "one two three"'))

    assert faults_of(run, "plan.1", arguments={"plan.1": {}}) == [("arguments.plan.1", "field_not_allowed")]


def test_an_input_that_is_too_large_is_refused(done):
    before = photograph()

    with pytest.raises(PayloadTooLarge):
        forks.fork(done, Fork("b", input=("x" * 1_100_000,)))

    assert photograph() == before


def test_the_same_key_gives_the_same_fork(done, worker):
    first, _ = forks.fork(done, Fork("b"), idempotency_key="k")

    assert forks.fork(done, Fork("b"), idempotency_key="k") == (first, True)
    for other in (Fork("c"), Fork("b", input=(None,)), Fork("b", effects="live")):
        with pytest.raises(IdempotencyKeyReused):
            forks.fork(done, other, idempotency_key="k")
    answers = in_parallel(*[lambda: forks.fork(done, Fork("c"), idempotency_key="l")] * 3)
    assert len({run.pk for run, _ in answers}) == 1
    for run in (first, answers[0][0]):
        worker.finish(run)
