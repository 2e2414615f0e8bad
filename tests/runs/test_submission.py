"""A submission is a committed run, once for each key, in a few round trips."""

from datetime import UTC, datetime, timedelta

import pytest

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.core.errors import IdempotencyKeyReused, NotFound, PlanInvalid
from agentsys.runs import dispatch, files, services
from agentsys.runs.models import Run
from agentsys.runs.submission import Submission
from tests.support.rows import photograph, value
from tests.support.threads import in_parallel
from tests.support.wire import requests
from tests.support.worker import events, statuses

THREADS = 8
ECHO = {"key": "a", "tool": "test.echo"}
PLAN = {"steps": [ECHO, ECHO | {"key": "b", "depends_on": ["a"]}], "answer": "${b}"}


def send(agent, key="", **fields):
    request = Submission(agent=agent.slug, **{"plan": PLAN, **fields})
    return services.submit(workspace_id=agent.workspace_id, user=None, request=request, idempotency_key=key)


@pytest.fixture(autouse=True)
def _nobody_hears(no_bell):
    """Bells reach nobody."""


def test_everything_that_was_asked_for_is_in_the_run(agent, make_user):
    user = make_user()
    request = Submission(
        agent=agent.slug, goal="g", plan=PLAN, input={"x": [1]}, files={"f": b"\0\xff"}, priority=3, deadline_s=60,
        limits={"steps": 5, "time_s": 1000}, labels={"team": "red"}, model="offline", output_schema={"type": "null"},
    )  # fmt: skip

    run, replayed = services.submit(workspace_id=agent.workspace_id, user=user, request=request, idempotency_key="k")

    assert replayed is False
    kept = Run.objects.get(pk=run.pk)
    for one in (run, kept):
        assert (one.status, one.goal, one.plan, one.input, one.priority) == ("queued", "g", PLAN, {"x": [1]}, 3)
        assert (one.labels, one.limits, one.model) == ({"team": "red"}, {"steps": 5, "time_s": 1000}, "offline")
        assert (one.output_schema, one.created_by_id, one.idempotency_key) == ({"type": "null"}, user.pk, "k")
        assert timedelta(seconds=59) < one.deadline_at - one.created_at <= timedelta(seconds=60)
    assert files.read(run.pk, "f") == b"\0\xff"
    assert (statuses(run), events(run)) == ({"a": "ready", "b": "blocked"}, ["run.queued"])


def test_a_deadline_ends_a_run_and_a_time_limit_does_not(agent):
    for fields, seconds in (
        ({"deadline_s": 50, "limits": {"time_s": 9}}, 50),
        ({"limits": {"time_s": 7}}, None),
        ({}, None),
    ):
        run, _ = send(agent, **fields)
        kept = Run.objects.get(pk=run.pk)
        assert (kept.deadline_at and round((kept.deadline_at - kept.created_at).total_seconds())) == seconds


def test_it_takes_few_round_trips(agent):
    for _ in range(6):
        send(agent)  # the statements are prepared by then
    for fields, most in (({}, 3), ({"key": "k"}, 3), ({"goal": "do it", "plan": None}, 3), ({"files": {"f": b"x"}}, 8)):
        with requests() as sent:
            send(agent, **fields)
        assert len(sent) <= most, fields
    with requests() as sent:
        assert send(agent, "k")[1] is True
    assert len(sent) <= 8


def test_a_warm_process_records_a_run_in_one_round_trip(agent):
    for _ in range(6):
        send(agent)  # the statements are prepared by then
    with requests() as sent:
        run, _ = send(agent)

    assert len(sent) == 1
    assert statuses(run) == {"a": "ready", "b": "blocked"}


def version(agent, number, **fields):
    """What another process may have made current in the meantime."""
    made = AgentVersion.objects.create(workspace=agent.workspace, agent=agent, number=number, **fields)
    Agent.objects.filter(pk=agent.pk).update(current_version=made)
    return made


def test_what_a_process_remembers_of_an_agent_never_decides(agent):
    first, _ = send(agent)
    second = version(agent, 2, limits={"steps": 1})

    with pytest.raises(PlanInvalid):  # the version before allowed it
        send(agent)
    allowed = version(agent, 3, tools=["test.echo"], limits={"time_s": 60})
    for files_of_it in ({}, {"f": b"x"}):
        run, _ = send(agent, files=files_of_it)
        assert (run.agent_version_id, run.limits) == (allowed.pk, {"time_s": 60})
        assert Run.objects.get(pk=run.pk).agent_version_id == allowed.pk
    version(agent, 4, tools=["time.now"])
    with pytest.raises(PlanInvalid):
        send(agent)
    with pytest.raises(PlanInvalid):  # it remembers by now that it may not
        send(agent)
    version(agent, 5)
    assert send(agent)[0].agent_version.number == 5
    assert Run.objects.filter(agent_version=second).count() == 0
    assert first.agent_version_id not in (second.pk, allowed.pk)


def test_a_name_that_an_agent_had_is_no_longer_its_own(agent):
    send(agent)
    Agent.objects.filter(pk=agent.pk).update(slug="renamed")

    with pytest.raises(NotFound):
        send(agent)  # by the name it had
    other = Agent.objects.create(workspace=agent.workspace, slug=agent.slug, name="Another")
    theirs = version(other, 1)

    assert send(agent)[0].agent_version_id == theirs.pk
    assert Run.objects.count() == 2


def test_the_same_key_and_body_give_the_same_run_and_ring_once(agent, monkeypatch):
    rung = []
    monkeypatch.setattr(dispatch, "wake", rung.append)
    first, _ = send(agent, "k", files={"f": b"x"}, labels={"a": "1", "b": "2"}, input={"x": 1, "y": 2})
    before = photograph()

    again, replayed = send(agent, "k", files={"f": b"x"}, labels={"b": "2", "a": "1"}, input={"y": 2, "x": 1})

    assert (again.pk, replayed, again.agent_version.agent.slug) == (first.pk, True, agent.slug)
    assert rung == [["compute"]]
    assert photograph() == before


def test_the_same_key_finds_a_run_that_has_ended(agent, worker):
    run = worker.finish(send(agent, "k")[0])

    again, replayed = send(agent, "k")

    assert (again.pk, again.status, replayed) == (run.pk, "succeeded", True)


@pytest.mark.parametrize(
    "other",
    [
        {"goal": "other"},
        {"plan": {"steps": [ECHO]}},
        {"input": 0},
        {"files": {"f": b"y"}},
        {"files": {"g": b"x"}},
        {"files": {}},
        {"priority": 1},
        {"deadline_s": 1.5},
        {"start_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"limits": {"steps": 3}},
        {"labels": {"a": "b"}},
        {"model": "offline"},
        {"output_schema": {}},
    ],
    ids=str,
)
def test_the_same_key_with_another_body_is_refused(agent, other):
    send(agent, "k", files={"f": b"x"})
    before = photograph()

    with pytest.raises(IdempotencyKeyReused):
        send(agent, "k", **{"files": {"f": b"x"}, **other})

    assert photograph() == before


def test_without_a_key_each_submission_is_a_run(agent):
    assert len({send(agent)[0].pk for _ in range(3)}) == 3
    assert not any(replayed for _, replayed in (send(agent) for _ in range(2)))


def test_a_key_is_a_workspaces_own(agent):
    other = Workspace.objects.create(slug="theirs", name="Theirs")
    theirs = Agent.objects.create(workspace=other, slug=agent.slug, name="Theirs")
    theirs.current_version = AgentVersion.objects.create(workspace=other, agent=theirs, number=1)
    theirs.save()

    ours, _ = send(agent, "k")
    run, replayed = send(theirs, "k")

    assert replayed is False
    assert run.pk != ours.pk


@pytest.mark.promise("P10")
def test_of_many_with_the_same_key_at_once_one_makes_the_run(agent):
    for n in range(10):
        made = in_parallel(*[lambda key=f"k{n}": send(agent, key, files={"f": b"x"})] * THREADS)

        assert len({run.pk for run, _ in made}) == 1
        assert sorted(replayed for _, replayed in made) == [False] + [True] * (THREADS - 1)
    assert value("SELECT count(*) FROM runs_run") == 10
    assert value("SELECT count(*) FROM runs_step") == 20


def test_of_many_bodies_with_the_same_key_at_once_one_is_taken(agent):
    for n in range(10):
        told = in_parallel(*(lambda i=i, key=f"k{n}": _taken(agent, key, i) for i in range(THREADS)))

        assert sorted(told) == [False] * (THREADS - 1) + [True]
    assert value("SELECT count(*) FROM runs_run") == 10


def _taken(agent, key, body):
    try:
        return send(agent, key, input=body)[1] is False
    except IdempotencyKeyReused:
        return False


def test_submissions_with_the_same_files_in_another_order_do_not_trip_over_each_other(agent):
    """Content is stored once a workspace, so they meet on its rows."""
    names = [f"f{n}" for n in range(12)]
    contents = {name: name.encode() * 1000 for name in names}
    backwards = dict(reversed(contents.items()))

    for _ in range(5):
        in_parallel(*[lambda: send(agent, files=contents), lambda: send(agent, files=backwards)] * 4)

    assert value("SELECT count(*) FROM runs_payload") == 12
    assert value("SELECT count(*) FROM runs_runfile") == 12 * 40


def test_a_goal_gets_a_planning_step_unless_the_agent_runs_only_fixed_plans(agent):
    run, _ = send(agent, goal="do it", plan=None)
    assert list(run.steps.values_list("kind", "lane", "status")) == [("plan", "model", "ready")]
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, mode="fixed"
    )
    agent.save()
    before = photograph()

    with pytest.raises(PlanInvalid):
        send(agent, goal="do it", plan=None)

    assert photograph() == before


def test_a_run_pins_the_version_it_was_given_to(agent):
    run, _ = send(agent)
    first = agent.current_version
    agent.current_version = AgentVersion.objects.create(workspace_id=agent.workspace_id, agent=agent, number=2)
    agent.save()

    assert Run.objects.get(pk=run.pk).agent_version == first
    assert send(agent)[0].agent_version == agent.current_version


def test_another_workspaces_agent_and_one_without_a_version_are_not_there(agent):
    other = Workspace.objects.create(slug="theirs", name="Theirs")
    Agent.objects.create(workspace_id=agent.workspace_id, slug="empty", name="Empty")
    before = photograph()

    for workspace_id, slug in ((other.pk, agent.slug), (agent.workspace_id, "empty"), (agent.workspace_id, "none")):
        with pytest.raises(NotFound):
            services.submit(workspace_id=workspace_id, user=None, request=Submission(agent=slug, plan=PLAN))

    assert photograph() == before


@pytest.mark.promise("P1")
def test_a_dispatcher_that_fails_does_not_turn_a_recorded_run_into_an_error(agent, settings, caplog):
    settings.DISPATCHER = "tests.runs.nowhere.to_be_found"

    run, _ = send(agent)

    assert Run.objects.filter(pk=run.pk).exists()
    assert "could not ring" in caplog.text


def test_a_replay_asks_nothing_of_today(agent, submit):
    """The agent was narrowed after the first call; the same call still gives the same run."""
    first = submit([{"key": "a", "tool": "test.echo"}], key="k")
    agent.current_version = AgentVersion.objects.create(
        workspace=agent.workspace, agent=agent, number=2, tools=["none"]
    )
    agent.save()

    assert submit([{"key": "a", "tool": "test.echo"}], key="k").pk == first.pk
