"""P13: no workspace starves another: what a light one asks for comes soon, whatever a heavy one has waiting."""

import pytest

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs import batch, verify
from agentsys.runs.models import LaneSlot
from agentsys.runs.store import claims, complete
from agentsys.runs.store.claims import Result
from agentsys.runs.submission import Submission
from tests.support.rows import sql

ECHO = {"steps": [{"key": "a", "tool": "test.echo"}]}


@pytest.fixture
def tenant(no_bell):
    """A workspace that can submit so many runs of one step."""

    def make(name):
        workspace = Workspace.objects.create(slug=name, name=name)
        agent = Agent.objects.create(workspace=workspace, slug="assistant", name="Assistant")
        agent.current_version = AgentVersion.objects.create(workspace=workspace, agent=agent, number=1)
        agent.save()

        def submit(count, **fields):
            requests = [Submission(agent="assistant", plan=ECHO, **fields)] * count
            return batch.submit_all(workspace_id=workspace.pk, user=None, requests=requests)[0]

        submit.workspace = workspace
        return submit

    return make


def served(count):
    """Whose steps are done, in order."""
    found = []
    for _ in range(count):
        (held,) = claims.claim_some("compute", owner="w", limit=1)
        found.append(held.workspace_id)
        complete.complete(held, Result(1), claim_next=False)
    return found


@pytest.mark.promise("P13")
def test_five_light_workspaces_are_served_beside_a_heavy_one(tenant, settings):
    settings.LANE_SLOTS = 50
    heavy, light = tenant("heavy"), [tenant(f"light{n}") for n in range(5)]
    heavy(300)
    served(20)

    waits = []
    for _ in range(4):
        for one in light:
            one(1)
        order = served(12)
        waits += [order.index(one.workspace.pk) for one in light]

    assert max(waits) <= 10  # by the order in which they came it is hundreds
    assert verify_slots() == []


@pytest.mark.promise("P13")
def test_a_workspace_that_comes_late_is_level_with_one_that_had_the_lane_for_itself(tenant, settings):
    settings.LANE_SLOTS = 20
    early, late = tenant("early"), tenant("late")
    early(150)
    served(60)  # its clock has gone far
    late(60)

    order = served(40)

    assert 15 <= order.count(late.workspace.pk) <= 25


@pytest.mark.promise("P13")
def test_weights_share_the_lane(tenant, settings):
    settings.LANE_SLOTS = 30
    double, single = tenant("double"), tenant("single")
    double(1)
    single(1)
    served(2)
    sql("UPDATE runs_laneslot SET weight = 2 WHERE workspace_id = %s", double.workspace.pk)
    double(120)
    single(120)
    served(30)

    order = served(60)

    assert 34 <= order.count(double.workspace.pk) <= 46


@pytest.mark.promise("P13")
def test_a_workspace_gets_no_larger_share_by_calling_all_its_runs_urgent(tenant, settings):
    settings.LANE_SLOTS = 60
    urgent, plain = tenant("urgent"), tenant("plain")
    urgent(150, priority=10)
    plain(150)
    served(60)  # the head start that an offset gives, once

    order = served(60)

    assert 20 <= order.count(plain.workspace.pk) <= 40


def verify_slots():
    assert LaneSlot.objects.exists()
    return [finding for finding in verify.check() if finding.name == "I6" and finding.violations]
