"""A step that acts: a model calls tools turn by turn, each call a durable step, until it hands in a result."""

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.core.errors import ModelUnavailable
from agentsys.runs import control, forks, services
from agentsys.runs.models import Budget, Run
from agentsys.runs.states import Lane
from agentsys.runs.store import moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support.outages import lose_answer, lose_commit
from tests.support.priced import MODEL
from tests.support.rows import expire, sql, wake_now
from tests.support.worker import events, statuses

NUMBER = {"type": "integer"}


def call(tool="test.echo", **arguments):
    return {"tool": tool, "arguments": arguments}


def calls(*given, text=""):
    return {"calls": list(given), "text": text}


def result(value):
    return {"result": value}


def acting(key="a", **fields):
    return {"key": key, "kind": "act", "objective": "Do it.", **fields}


@pytest.fixture
def act(submit, priced):
    """A run of one acting step, whose model gives these answers."""

    def make(*answers, step=None, steps=None, **fields):
        for answer in answers:
            priced.does(answer) if callable(answer) or isinstance(answer, Exception) else priced.answers(answer)
        return submit(steps or [acting(**(step or {}))], model=MODEL, answer=fields.pop("answer", "${a}"), **fields)

    return make


@pytest.fixture
def react(agent):
    """The agent decides step by step."""
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="react", model=MODEL
    )
    agent.save()
    return agent


def seen(priced, n):
    """The turns that the model was told of in its ``n``-th request."""
    return [[(one.tool, one.output) for one in turn.calls] for turn in priced.requests[n].turns]


# --- Turns -----------------------------------------------------------------------------
def test_it_calls_sees_what_came_and_hands_in_a_result(act, worker, priced):
    run = act(calls(call(value=7), text="Let me see."), result("seven"))

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", "seven")
    assert statuses(run) == {"a": "succeeded", "a.1.1": "succeeded"}
    assert seen(priced, 1) == [[("test.echo", "7")]]
    assert priced.requests[1].turns[0].text == "Let me see."
    assert list(run.steps.get(key="a").attempts.order_by("number").values_list("outcome", flat=True)) == [
        "acted", "succeeded",
    ]  # fmt: skip
    assert "step.acting a" in events(run)
    assert (run.model_calls, run.tool_calls) == (2, 1)


def test_calls_of_one_turn_run_side_by_side_and_all_are_waited_for(act, worker, priced, step_of):
    run = act(calls(call(value=1), call("test.far", value=2), call(value=3)), result("all"))
    worker.drain(Lane.MODEL)

    assert statuses(run) == {"a": "blocked", "a.1.1": "ready", "a.1.2": "ready", "a.1.3": "ready"}
    assert step_of(run, "a").deps_left == 3
    worker.drain(Lane.COMPUTE)
    assert statuses(run)["a"] == "blocked"
    assert worker.finish(run).result == "all"
    assert seen(priced, 1) == [[("test.echo", "1"), ("test.far", "2"), ("test.echo", "3")]]


def test_it_takes_many_turns(act, worker, priced):
    run = act(*(calls(call(value=n)) for n in range(5)), result("done"))

    worker.finish(run)

    assert list(statuses(run)) == ["a", *(f"a.{n}.1" for n in range(1, 6))]
    assert len(priced.requests[5].turns) == 5
    assert run.steps.get(key="a").attempt == 6


def test_a_result_needs_no_call(act, worker):
    assert worker.finish(act(result({"n": 1}))).result == {"n": 1}


def test_what_follows_gets_the_result(act, worker):
    steps = [acting(), {"key": "b", "tool": "test.echo", "arguments": {"value": "${a.n}"}}]
    run = act(calls(call(value=1)), result({"n": 5}), steps=steps, answer="${b}")
    assert worker.finish(run).result == 5


def test_it_is_told_of_outputs_input_messages_and_its_objective_is_a_template(act, worker, priced):
    steps = [{"key": "x", "tool": "test.echo", "arguments": {"value": "moon"}},
             acting(objective="Look at the ${x}.", depends_on=["x"])]  # fmt: skip
    run = act(calls(call(value=1)), result("ok"), steps=steps, input={"who": "Ada"})
    worker.drain(Lane.COMPUTE)
    worker.drain(Lane.MODEL)
    control.message(run, "Hurry.")

    worker.finish(run)

    first, second = priced.requests
    assert "Look at the moon." in first.prompt
    assert '"x": "moon"' in first.prompt
    assert "Ada" in first.prompt
    assert "Hurry." not in first.prompt
    assert "Hurry." in second.prompt


def test_what_a_model_writes_is_no_reference(act, worker, priced):
    run = act(calls(call(value="${input.secret}")), result("ok"), input={"secret": "s3cret"})
    worker.finish(run)
    assert seen(priced, 1) == [[("test.echo", "${input.secret}")]]


# --- What goes wrong -------------------------------------------------------------------
def test_a_call_that_fails_is_seen_and_the_run_goes_on(act, worker, priced):
    run = act(calls(call("test.fail", message="no such page"), call(value=1)), result("without it"))

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", "without it")
    assert statuses(run) == {"a": "succeeded", "a.1.1": "failed", "a.1.2": "succeeded"}
    (turn,) = seen(priced, 1)
    assert "no such page" in turn[0][1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (call("test.nothing"), "There is no tool 'test.nothing' for this agent"),
        (call(wrong=1), "has no argument"),
        ({"tool": "test.echo", "arguments": "no object"}, "must be an object"),
        ({"tool": None, "arguments": {}}, "needs the name"),
        (call(value="\0"), "NUL"),
    ],
)
def test_a_call_that_cannot_be_made_is_corrected_in_the_same_turn(act, worker, priced, wrong, said):
    run = act(calls(wrong), calls(call(value=2)), result("ok"))

    worker.finish(run)

    assert run.result == "ok"
    assert list(statuses(run)) == ["a", "a.1.1"]
    assert said in priced.requests[1].note
    assert priced.requests[2].note == ""


def test_calls_that_stay_wrong_fail_the_step_with_all_their_faults(act, worker):
    run = act(*[calls(call("test.nothing"))] * 3)

    worker.finish(run)

    assert (run.status, run.reason, run.error["code"]) == ("failed", "model", "calls_invalid")
    assert run.error["data"]["errors"][0]["path"] == "calls[0].tool"
    assert list(statuses(run)) == ["a"]


def test_a_result_of_another_shape_is_corrected(act, worker, priced):
    run = act(result("seven"), result(7), step={"arguments": {"schema": NUMBER}})
    assert worker.finish(run).result == 7
    assert "is not of type 'integer'" in priced.requests[1].note


def test_it_may_call_no_tool_that_its_step_does_not_name(act, worker, priced):
    run = act(calls(call("test.far", value=1)), result("ok"), step={"arguments": {"tools": ["test.echo"]}})
    worker.finish(run)
    assert {tool.name for tool in priced.requests[0].tools} == {"test.echo", "observation.read"}
    assert "no tool 'test.far'" in priced.requests[1].note
    assert list(statuses(run)) == ["a"]


def test_it_may_call_no_tool_that_its_agent_may_not(act, agent, worker, priced):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="plan", tools=["test.echo"]
    )
    agent.save()
    run = act(calls(call("test.write")), result("ok"))
    worker.finish(run)
    assert list(statuses(run)) == ["a"]


def test_after_its_last_turn_it_has_to_answer(act, worker, priced, settings):
    settings.ACT_MAX_TURNS = 2
    run = act(calls(call(value=1)), calls(call(value=2)), result("in time"))

    worker.finish(run)

    assert run.result == "in time"
    assert priced.requests[2].tools == ()
    assert "No calls are left" in priced.requests[2].note


def test_who_calls_the_same_in_vain_again_and_again_is_told_and_then_stopped(act, worker, priced, settings):
    settings.RUN_MAX_REPEATS = 3
    run = act(*[calls(call("test.fail"))] * 6)

    worker.finish(run)

    assert (run.status, run.reason, run.error["code"]) == ("failed", "policy", "loop_detected")
    assert len([key for key in statuses(run) if key != "a"]) == 3
    assert "3 times with the same arguments" in priced.requests[4].note


def test_who_calls_in_vain_may_find_another_way(act, worker, settings):
    settings.RUN_MAX_REPEATS = 3
    run = act(*[calls(call("test.fail"))] * 4, result("another way"))
    assert worker.finish(run).result == "another way"


def test_a_model_that_is_away_is_asked_again_without_losing_a_turn(act, worker, priced, step_of):
    run = act(calls(call(value=1)), ModelUnavailable("later", retry_after_s=0), result("ok"))
    assert worker.finish(run).result == "ok"
    assert len(priced.requests[2].turns) == 1
    assert step_of(run, "a").failures == 1


def test_failures_of_the_model_in_one_turn_are_not_held_against_the_next(act, worker):
    away = ModelUnavailable("later", retry_after_s=0)
    answers = [part for n in range(5) for part in (away, away, calls(call(value=n)))]
    assert worker.finish(act(*answers, result("ok"), step={"max_attempts": 3})).result == "ok"


# --- People and limits ------------------------------------------------------------------
def test_a_call_that_needs_an_approval_waits_for_it_and_a_no_is_seen(act, agent, worker, priced):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="plan", approvals={"tools": ["test.echo"]}
    )
    agent.save()
    run = act(calls(call(value=1)), result("not allowed"))
    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "approval")
    assert statuses(run) == {"a": "blocked", "a.1.1": "waiting"}


def test_a_pause_holds_its_calls_and_a_resume_lets_them_go_on(act, worker):
    run = act(calls(call(value=1)), result("ok"))
    worker.drain(Lane.MODEL)
    control.pause(run)
    worker.work(sleepers=True)
    assert statuses(run) == {"a": "blocked", "a.1.1": "queued"}
    control.resume(run)
    assert worker.finish(run).result == "ok"


def test_a_cancel_ends_it_and_its_calls(act, worker):
    run = act(calls(call(value=1)), result("ok"))
    worker.drain(Lane.MODEL)
    services.cancel(run)
    assert set(statuses(run).values()) == {"cancelled"}


def test_a_cancel_while_the_model_thinks_makes_no_calls(act, worker):
    made = []

    def think():
        services.cancel(made[0])
        raise ModelUnavailable("too late")

    made.append(act(think))
    worker.work()
    made[0].refresh_from_db()
    assert made[0].status == "cancelled"
    assert list(statuses(made[0])) == ["a"]


def test_calls_that_find_no_room_in_the_budget_are_kept_until_they_do(act, worker, priced):
    run = act(calls(call(value=1), call(value=2)), result("ok"), limits={"steps": 2})
    worker.work()

    run.refresh_from_db()
    assert (run.status, run.reason, list(statuses(run))) == ("waiting", "budget", ["a"])
    control.resume(run, limits={"steps": 3})

    assert worker.finish(run).result == "ok"
    assert len(priced.requests) == 2
    assert Budget.objects.get(run=run).spent == 3


def test_its_calls_keep_to_the_cap_of_the_run(act, worker):
    run = act(calls(*(call(value=n) for n in range(4))), result("ok"), limits={"parallel": 1})
    worker.drain(Lane.MODEL)
    assert sorted(statuses(run).values()) == ["blocked", "queued", "queued", "queued", "ready"]
    assert worker.finish(run).result == "ok"


# --- Crashes ----------------------------------------------------------------------------
@pytest.mark.promise("P6")
@pytest.mark.parametrize("committed", [True, False])
def test_a_turn_whose_commit_is_lost_is_recorded_once(act, worker, priced, monkeypatch, committed):
    def think():
        lose_commit(monkeypatch, committed=committed)
        return priced.script.pop(0)

    run = act(think, calls(call(value=1)), result("ok"))

    assert worker.finish(run).result == "ok"
    assert list(statuses(run)) == ["a", "a.1.1"]
    assert events(run).count("step.acting a") == 1


@pytest.mark.promise("P3")
def test_a_worker_that_was_given_up_adds_no_calls(act, worker, priced, step_of):
    run = act(lambda: (expire_and_reap(run), priced.script.pop(0))[1], calls(call(value=1)), result("ok"))

    def expire_and_reap(run):
        expire(run)
        held = step_of(run, "a")
        moves.give_back(held.pk, run.pk, held.claim_token, why="dead")

    worker.work()

    assert worker.finish(run).result == "ok"
    assert list(statuses(run)) == ["a"]


def test_a_worker_that_dies_between_turns_loses_nothing(act, worker, priced):
    run = act(calls(call(value=1)), result("ok"))
    worker.drain(Lane.MODEL)
    held = claim("compute", owner="dead")
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")
    assert worker.finish(run).result == "ok"
    assert len(priced.requests) == 2


def test_the_last_of_its_calls_to_end_lets_it_go_on_whatever_the_answer_to_the_worker(act, worker, monkeypatch):
    run = act(calls(call(value=1)), result("ok"))
    worker.drain(Lane.MODEL)
    lose_answer(monkeypatch, "complete")
    assert worker.finish(run).result == "ok"


# --- Other runs of it ---------------------------------------------------------------------
def test_a_retry_goes_on_from_what_was_seen(act, worker, priced):
    run = act(calls(call(value=1), call("test.fail")), *[calls(call("test.nothing"))] * 3, result("at last"))
    assert worker.finish(run).status == "failed"

    again, _ = control.retry(run)

    assert worker.finish(again).result == "at last"
    assert statuses(again) == {"a": "succeeded", "a.1.1": "succeeded", "a.1.2": "failed"}
    assert len(priced.requests[-1].turns) == 1
    assert again.tool_calls == 0


@pytest.mark.parametrize(
    ("from_step", "kept", "turns"), [("a", [], 0), ("a.1.1", ["a.1.1"], 1), ("a.2.1", ["a.1.1", "a.2.1"], 2)]
)
def test_a_fork_from_it_begins_anew_and_one_from_a_call_goes_on_from_there(act, worker, priced, from_step, kept, turns):
    run = worker.finish(act(calls(call(value=1)), calls(call(value=2)), result("first")))
    priced.answers(result("second"))

    fork, _ = forks.fork(run, forks.Fork(from_step=from_step))

    assert list(statuses(fork)) == ["a", *kept]
    assert worker.finish(fork).result == "second"
    assert len(priced.requests[-1].turns) == turns


def test_a_new_plan_replaces_what_has_not_started_and_lets_it_go_on(submit, worker, priced, planner):
    new = {"key": "new", "tool": "test.echo", "arguments": {"value": "${a}"}}
    planner(
        {"steps": [acting(), {"key": "old", "tool": "test.echo", "depends_on": ["a"]}]},
        {"steps": [new], "answer": "${new}"},
    )
    priced.answers(calls(call(value=1))).answers(result("acted"))
    run = submit(goal="Something.", model=MODEL)
    worker.drain(Lane.MODEL)
    worker.drain(Lane.MODEL)
    assert statuses(run)["a"] == "blocked"

    control.message(run, "Otherwise, please.", replan=True)

    worker.finish(run)
    assert (run.status, run.result) == ("succeeded", "acted")
    assert statuses(run)["a.1.1"] == "succeeded"


# --- React ---------------------------------------------------------------------------------
def test_an_agent_of_mode_react_acts_for_the_goal(submit, react, worker, priced):
    priced.answers(calls(call(value=42))).answers(result("It is 42."))
    run = worker.finish(submit(goal="What is it?"))

    assert (run.status, run.result) == ("succeeded", "It is 42.")
    assert statuses(run) == {"act": "succeeded", "act.1.1": "succeeded"}
    assert "What is it?" in priced.requests[0].prompt


def test_the_result_of_an_agent_of_mode_react_has_the_runs_shape(submit, react, worker, priced):
    priced.answers(result("42")).answers(result(42))
    run = worker.finish(submit(goal="What is it?", output_schema=NUMBER))
    assert run.result == 42


def test_an_agent_of_mode_react_may_be_given_a_plan(submit, react, worker):
    run = worker.finish(submit([{"key": "x", "tool": "test.echo", "arguments": {"value": 3}}]))
    assert run.result == {"x": 3}


def test_the_offline_model_acts_with_one_call(submit, agent, worker):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="react"
    )
    agent.save()
    run = worker.finish(submit(goal='Count the words in "one two three"'))
    assert run.status == "succeeded"
    assert "act.1.1" in statuses(run)


# --- Long outputs, long histories -------------------------------------------------------------
def test_a_long_output_is_shown_by_its_head_and_read_on_by_a_tool(act, worker, priced):
    text = "".join(chr(97 + n % 26) for n in range(10_000))
    run = act(
        calls(call(value=text)),
        calls(call("observation.read", step="a.1.1", offset=9_990, length=50)),
        result("read"),
    )

    assert worker.finish(run).result == "read"
    shown = priced.requests[1].turns[0].calls[0].output
    assert len(shown) < 4_200
    assert 'observation.read(step="a.1.1"' in shown
    assert f'"text": "{text[9_990:]}"' in priced.requests[2].turns[1].calls[0].output
    assert Run.objects.get(pk=run.pk).tool_calls == 2


def test_what_a_model_is_told_stays_bounded_however_many_turns_there_are(act, worker, priced, settings):
    settings.ACT_MAX_TURNS = 100
    run = act(*(calls(call(value=f"{n} " * 1_500)) for n in range(60)), result("done"))

    worker.finish(run)

    sizes = [
        len(one.prompt) + sum(len(call.output) + len(str(call.arguments)) for turn in one.turns for call in turn.calls)
        for one in priced.requests
    ]
    assert max(sizes[20:]) < 1.5 * sizes[19]
    assert "turn 1, a.1.1: test.echo" in priced.requests[-1].prompt
    assert len(priced.requests[-1].turns) < 15


def test_waits_are_calls_too(act, worker):
    run = act(calls(call("wait", seconds=3600)), result("ok"))
    worker.work()
    assert statuses(run) == {"a": "blocked", "a.1.1": "sleeping"}
    wake_now(run)
    sql("SELECT 1")
    sweeps.wake_sleepers()
    assert worker.finish(run).result == "ok"
