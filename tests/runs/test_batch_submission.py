"""A batch of submissions is all of its runs or none, in one commit, once for each key."""

import pytest

from agentsys.agents.models import Agent, AgentVersion
from agentsys.core.errors import IdempotencyKeyReused, InvalidInput
from agentsys.runs import batch, dispatch, files, services, verify
from agentsys.runs.models import Run, Step
from agentsys.runs.submission import Submission
from tests.support.rows import photograph, value
from tests.support.threads import in_parallel
from tests.support.wire import requests
from tests.support.worker import events, statuses

THREADS = 6
ECHO = {"key": "a", "tool": "test.echo"}
PLAN = {"steps": [ECHO, ECHO | {"key": "b", "depends_on": ["a"]}], "answer": "${b}"}


@pytest.fixture(autouse=True)
def _nobody_hears(no_bell):
    """Bells reach nobody."""


def asked(agent, count, **fields):
    return [Submission(agent=agent.slug, **{"plan": PLAN, "goal": f"goal {n}", **fields}) for n in range(count)]


def send(agent, given, key=""):
    return batch.submit_all(workspace_id=agent.workspace_id, user=None, requests=given, idempotency_key=key)


def test_the_runs_come_in_order_each_with_its_own_steps_and_edges(agent, worker):
    runs, replayed = send(agent, asked(agent, 5))

    assert replayed is False
    assert [run.goal for run in runs] == [f"goal {n}" for n in range(5)]
    assert value("SELECT count(*) FROM runs_stepedge") == 5
    for run in runs:
        kept = Run.objects.get(pk=run.pk)
        assert (kept.goal, kept.plan, kept.created_at, kept.status) == (run.goal, PLAN, run.created_at, "queued")
        assert (statuses(run), events(run)) == ({"a": "ready", "b": "blocked"}, ["run.queued"])
    assert [worker.finish(run).status for run in runs] == ["succeeded"] * 5
    steps = Step.objects.order_by("id").values_list("run_id", "key")
    assert list(steps) == [(run.pk, key) for run in runs for key in "ab"]


def test_a_batch_costs_two_queries_and_one_ring(agent, monkeypatch):
    rung = []
    monkeypatch.setattr(dispatch, "wake", rung.append)
    for _ in range(6):
        send(agent, asked(agent, 1))  # the statements are prepared by then
    rung.clear()

    with requests() as sent:
        send(agent, asked(agent, 100))

    assert len(sent) == 2
    assert rung == [["compute"] * 100]
    assert value("SELECT count(*) FROM runs_run") == 106


def test_runs_of_several_agents_plans_and_goals_go_together(agent):
    other = Agent.objects.create(workspace=agent.workspace, slug="other", name="Other")
    other.current_version = AgentVersion.objects.create(workspace=agent.workspace, agent=other, number=1)
    other.save()
    given = [
        Submission(agent="other", goal="g"),
        *asked(agent, 1),
        Submission(agent=agent.slug, plan={"steps": [ECHO]}),
    ]

    runs, _ = send(agent, given)

    assert [run.agent_version.agent.slug for run in runs] == ["other", agent.slug, agent.slug]
    assert [statuses(run) for run in runs] == [{"plan.1": "ready"}, {"a": "ready", "b": "blocked"}, {"a": "ready"}]


def test_every_fault_of_every_run_is_told_and_nothing_is_stored(agent):
    good = asked(agent, 1)[0]
    bad_plan = Submission(agent=agent.slug, plan={"steps": [{"key": "a", "tool": "nobody"}, ECHO]})
    given = [good, Submission(agent=agent.slug), bad_plan, Submission(agent="nobody", goal="g"),
             Submission(agent=agent.slug, goal="g", input="x" * 2_000_000)]  # fmt: skip
    before = photograph()

    with pytest.raises(InvalidInput) as caught:
        send(agent, given, key="k")

    assert sorted((fault["path"], fault["code"]) for fault in caught.value.data["errors"]) == [
        ("runs[1].goal", "missing"),
        ("runs[2].steps[0].tool", "unknown_tool"),
        ("runs[2].steps[1].key", "duplicate_key"),
        ("runs[3].agent", "not_found"),
        ("runs[4]", "payload_too_large"),
    ]
    assert photograph() == before


def test_a_hundred_faults_are_enough(agent):
    with pytest.raises(InvalidInput) as caught:
        send(agent, [Submission(agent=agent.slug)] * 500)

    assert len(caught.value.data["errors"]) == batch.MAX_FAULTS


@pytest.mark.parametrize("limit", ["MAX_RUNS", "MAX_STEPS", "MAX_FILES"])
def test_a_batch_has_limits(agent, limit, monkeypatch):
    monkeypatch.setattr(batch, limit, 3)
    given = asked(agent, 4, files={"f": b"x"})

    with pytest.raises(InvalidInput) as caught:
        send(agent, given)

    assert [(fault["path"], fault["code"]) for fault in caught.value.data["errors"]] == [
        ("runs", f"too_many_{limit.removeprefix('MAX_').lower()}")
    ]
    assert not Run.objects.exists()


def test_none_are_none(agent):
    assert send(agent, [], "k") == ([], False)


def test_the_same_key_and_runs_give_the_same_runs_and_ring_once(agent, monkeypatch):
    rung = []
    monkeypatch.setattr(dispatch, "wake", rung.append)
    given = asked(agent, 3, files={"f": b"\0"})
    first, _ = send(agent, given, "k")
    before = photograph()

    again, replayed = send(agent, given, "k")

    assert replayed is True
    assert [run.pk for run in again] == [run.pk for run in first]
    assert len(rung) == 1
    assert photograph() == before
    assert [files.read(run.pk, "f") for run in again] == [b"\0"] * 3


def test_a_key_of_a_batch_is_for_nothing_else(agent):
    given = asked(agent, 3)
    send(agent, given, "batch")
    services.submit(workspace_id=agent.workspace_id, user=None, request=given[0], idempotency_key="single")
    before = photograph()

    for other in (given[:2], given[::-1], asked(agent, 4), [*given[:2], asked(agent, 1, priority=1)[0]]):
        with pytest.raises(IdempotencyKeyReused):
            send(agent, other, "batch")
    for alone in (given, given[:1]):
        with pytest.raises(IdempotencyKeyReused):
            send(agent, alone, "single")
    with pytest.raises(IdempotencyKeyReused):
        services.submit(workspace_id=agent.workspace_id, user=None, request=given[0], idempotency_key="batch")

    assert photograph() == before


def test_of_many_batches_with_the_same_key_at_once_one_makes_the_runs(agent):
    given = asked(agent, 4, files={"f": b"x"})

    made = in_parallel(*[lambda: send(agent, given, "k")] * THREADS)

    assert len({tuple(run.pk for run in runs) for runs, _ in made}) == 1
    assert sorted(replayed for _, replayed in made) == [False] + [True] * (THREADS - 1)
    assert value("SELECT count(*) FROM runs_run") == 4
    assert value("SELECT count(*) FROM runs_step") == 8


def test_a_batch_and_a_single_run_with_the_same_key_at_once_do_not_both_win(agent):
    given = asked(agent, 3)

    def single():
        try:
            services.submit(workspace_id=agent.workspace_id, user=None, request=given[0], idempotency_key=key)
        except IdempotencyKeyReused:
            return 0
        return 1

    def many():
        try:
            return len(send(agent, given, key)[0])
        except IdempotencyKeyReused:
            return 0

    for n in range(10):
        key = f"k{n}"
        before = value("SELECT count(*) FROM runs_run")
        counts = in_parallel(single, many)
        assert sorted(counts) in ([0, 1], [0, 3])
        assert value("SELECT count(*) FROM runs_run") == before + sum(counts)


def test_files_of_a_batch_with_shared_contents_lock_nothing_crosswise(agent):
    there = [Submission(agent=agent.slug, plan=PLAN, files={"a": b"1", "b": b"2"}),
             Submission(agent=agent.slug, plan=PLAN, files={"a": b"3", "b": b"1"})]  # fmt: skip

    in_parallel(*[lambda: send(agent, there), lambda: send(agent, there[::-1])] * 4)

    assert value("SELECT count(*) FROM runs_runfile") == 8 * 4
    assert value("SELECT count(*) FROM runs_payload") == 3


def test_what_a_batch_wrote_keeps_the_invariants(agent, worker):
    runs, _ = send(agent, asked(agent, 3), "k")
    worker.finish(runs[1])

    assert [line for line in verify.check() if line.violations] == []
