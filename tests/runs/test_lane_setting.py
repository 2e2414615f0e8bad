"""A changed AGENTSYS_LANE_SLOTS reaches the slots that nobody has set; those that somebody has set stay."""

import pytest
from django.core.management import call_command

from agentsys.accounts.models import Workspace
from agentsys.runs import lanes
from agentsys.runs.models import LaneSlot, Step
from agentsys.runs.store import slots, sweeps
from agentsys.runs.store.claims import claim
from tests.support.rows import photograph
from tests.support.threads import in_parallel

ECHO = {"tool": "test.echo"}


def wide(count):
    return [{"key": f"s{n}", **ECHO} for n in range(count)]


def statuses():
    found = list(Step.objects.values_list("status", flat=True))
    return {status: found.count(status) for status in set(found)}


@pytest.fixture
def prepare(settings):
    def with_slots(count):
        settings.LANE_SLOTS = count
        return lanes.follow_setting()

    return with_slots


def test_a_raised_setting_lets_what_is_queued_in(submit, settings, prepare):
    settings.LANE_SLOTS = 2
    submit(wide(5))
    assert statuses() == {"ready": 2, "queued": 3}

    assert prepare(4) == 1
    sweeps.admit()

    assert statuses() == {"ready": 4, "queued": 1}
    slot = LaneSlot.objects.get()
    assert (slot.lim, slot.used, slot.over, slot.custom) == (4, 4, 0, False)
    assert prepare(4) == 0


def test_a_lowered_setting_sends_back_what_has_not_started_and_lets_end_what_runs(submit, settings, prepare, worker):
    settings.LANE_SLOTS = 5
    run = submit(wide(5))
    claim("compute", owner="w")

    prepare(1)
    slot = LaneSlot.objects.get()
    assert (slot.lim, slot.used, slot.over) == (1, 5, 4)
    sweeps.admit()

    assert statuses() == {"running": 1, "queued": 4}
    assert LaneSlot.objects.get().used == 1
    lanes.change(run.workspace_id, "compute", {"limit": 5}, user=None)
    sweeps.admit()


@pytest.mark.parametrize("given", [{"limit": 3}, {"weight": 2.0}])
def test_what_a_person_has_set_stays(submit, settings, prepare, workspace, given):
    settings.LANE_SLOTS = 2
    submit(wide(1))
    lanes.change(workspace.pk, "compute", given, user=None)
    before = list(LaneSlot.objects.values())

    assert prepare(9) == 0

    assert list(LaneSlot.objects.values()) == before


def test_all_workspaces_follow_however_many(db, prepare, monkeypatch):
    monkeypatch.setattr(slots, "MAX_AT_ONCE", 3)
    for n in range(10):
        workspace = Workspace.objects.create(slug=f"w{n}", name="W")
        LaneSlot.objects.create(workspace=workspace, lane="model", lim=7)

    assert prepare(8) == 10
    assert set(LaneSlot.objects.values_list("lim", flat=True)) == {8}


def test_two_starts_at_once_and_steps_that_move_meanwhile_agree(submit, settings, prepare, worker):
    settings.LANE_SLOTS = 3
    run = submit(wide(30))
    settings.LANE_SLOTS = 2

    in_parallel(lanes.follow_setting, lanes.follow_setting, lambda: worker.drain("compute"), sweeps.admit)

    assert LaneSlot.objects.get().lim == 2
    assert worker.finish(run).status == "succeeded"
    assert LaneSlot.objects.get().used == 0


def test_preparing_a_version_does_it(submit, settings, workspace):
    settings.LANE_SLOTS = 2
    submit(wide(1))
    settings.LANE_SLOTS, settings.DEFAULT_ADMIN_PASSWORD = 6, "correct horse battery"

    call_command("prepare")

    assert LaneSlot.objects.get().lim == 6
    before = photograph()
    call_command("prepare")
    assert photograph() == before
