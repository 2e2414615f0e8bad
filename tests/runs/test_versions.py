"""A run keeps the agent version that it began with, whatever its agent gets meanwhile."""

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.runs import control, forks
from tests.support.worker import statuses

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = [
    {"key": "a", "tool": "test.echo", "arguments": {"value": 1}},
    {"key": "far", "tool": "test.far", "arguments": {"value": "${a}"}},
]


@pytest.fixture
def replaced(agent):
    """The agent gets another version; what it said before is as it was."""

    def make(**definition):
        version = AgentVersion.objects.create(workspace=agent.workspace, agent=agent, number=2, **definition)
        agent.current_version = version
        agent.save()
        return version

    return make


def test_a_run_under_way_goes_on_with_the_version_it_began_with(submit, worker, replaced):
    run = submit(STEPS)
    worker.drain("compute")
    replaced(tools=["text.count"])  # which test.far is not among

    worker.finish(run)

    assert (run.status, run.agent_version.number) == ("succeeded", 1)


def test_a_planning_step_plans_by_the_version_of_its_run(submit, worker, replaced):
    run = submit(goal="Compute 6 * 7.")
    replaced(mode="fixed", tools=["test.echo"])  # by which nothing could be planned

    worker.finish(run)

    assert (run.status, run.agent_version.number) == ("succeeded", 1)
    assert statuses(run)


def test_a_retry_and_a_fork_keep_it_and_a_new_run_has_the_new_one(submit, worker, replaced):
    run = worker.finish(submit([*STEPS, {"key": "f", "tool": "test.fail", "depends_on": ["far"]}]))
    second = replaced()

    retried, _ = control.retry(run)
    forked, _ = forks.fork(run, forks.Fork(from_step="a"))

    assert {retried.agent_version_id, forked.agent_version_id} == {run.agent_version_id}
    assert submit(STEPS).agent_version_id == second.pk
