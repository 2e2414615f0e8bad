"""Lanes in the admin: read by all members, set by admins through the service that REST uses."""

import pytest
from django.contrib.admin.models import LogEntry

from agentsys.accounts.models import Role
from agentsys.runs import lanes
from agentsys.runs.models import LaneSlot, Step
from agentsys.runs.store import slots
from tests.dashboard.conftest import echo, snapshot

LIST = "/admin/runs/laneslot/"


@pytest.fixture
def row(submit, settings):
    """A lane in which one step has its slot and two wait."""
    settings.LANE_SLOTS = 1
    submit([echo("a"), echo("b"), echo("c")])
    slots.admit_all([(found.workspace_id, found.lane) for found in LaneSlot.objects.all()])
    return LaneSlot.objects.get()


def statuses():
    return sorted(Step.objects.values_list("status", flat=True))


def test_a_viewer_reads_what_there_is_of_the_own_workspace(staff, row, elsewhere):
    (line,) = staff(Role.VIEWER).page(LIST).css("#result_list tbody tr")
    assert [cell.text().strip() for cell in line.css("th, td")][:5] == ["compute", "1", "1", "1.0", "the installation"]

    assert not staff(Role.ADMIN, elsewhere).page(LIST).css("#result_list tbody tr")


def test_a_raised_limit_lets_queued_steps_in_at_once_and_is_kept_in_the_log(staff, row):
    assert statuses() == ["queued", "queued", "ready"]

    answer = staff(Role.ADMIN).post(f"{LIST}{row.pk}/change/", limit="2", weight="2.5")

    assert answer.headers["Location"] == LIST
    row.refresh_from_db()
    assert (row.lim, row.used, row.weight, row.custom) == (2, 2, 2.5, True)
    assert statuses() == ["queued", "ready", "ready"]
    assert LogEntry.objects.get(object_id=str(row.pk)).get_change_message() == "Set limit 2, weight 2.5."


def test_a_form_that_changes_nothing_leaves_the_lane_to_the_installation(staff, row):
    staff(Role.ADMIN).post(f"{LIST}{row.pk}/change/", limit="1", weight="1.0")

    row.refresh_from_db()
    assert (row.lim, row.custom) == (1, False)


def test_only_what_is_changed_is_set(staff, row, workspace):
    admin = staff(Role.ADMIN)
    lanes.change(workspace.pk, "compute", {"limit": 50}, user=None)  # since the form was opened with 50
    admin.post(f"{LIST}{row.pk}/change/", limit="50", weight="3")

    row.refresh_from_db()
    assert (row.lim, row.weight) == (50, 3)


def test_a_lane_that_was_never_used_is_set_too_and_once(staff, workspace):
    admin = staff(Role.ADMIN)
    fields = {"workspace": workspace.pk, "lane": "network", "limit": "5", "weight": "1"}

    assert admin.post(f"{LIST}add/", **fields).status_code == 302

    assert [(share.lane, share.limit) for share in lanes.of_workspace(workspace.pk) if share.custom] == [("network", 5)]
    again = admin.post(f"{LIST}add/", **(fields | {"limit": "9"}))
    assert again.status_code == 200
    assert "already exists" in again.content.decode()
    assert LaneSlot.objects.get().lim == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("limit", value) for value in ("", "0", "-1", "x", "1.5", "100001", "9" * 30, "\0")),
        *(("weight", value) for value in ("", "0", "-1", "x", "nan", "inf", "101", "1e400")),
    ],
)
@pytest.mark.parametrize("verb", ["change", "add"])
def test_what_is_no_limit_or_weight_is_told_on_the_form(staff, row, workspace, field, value, verb):
    admin, before = staff(Role.ADMIN), snapshot(LaneSlot)
    fields = {"limit": "5", "weight": "2", field: value}
    if verb == "add":
        fields |= {"workspace": workspace.pk, "lane": "model"}

    answer = admin.post(f"{LIST}add/" if verb == "add" else f"{LIST}{row.pk}/change/", **fields)

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode() or "errornote" in answer.content.decode()
    assert snapshot(LaneSlot) == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR])
def test_who_is_no_admin_sets_nothing(staff, row, workspace, role):
    person, before = staff(role), snapshot(LaneSlot)

    assert not person.page(f"{LIST}{row.pk}/change/").css("input[name=limit]")
    for url in (f"{LIST}{row.pk}/change/", f"{LIST}add/"):
        fields = {"workspace": workspace.pk, "lane": "model", "limit": "5", "weight": "1"}
        assert person.post(url, **fields).status_code == 403
    assert snapshot(LaneSlot) == before


def test_an_admin_elsewhere_does_not_find_the_lane(staff, row, elsewhere, workspace):
    stranger, before = staff(Role.ADMIN, elsewhere), snapshot(LaneSlot)

    assert stranger.post(f"{LIST}{row.pk}/change/", limit="5", weight="1").status_code == 302
    fields = {"workspace": workspace.pk, "lane": "model", "limit": "5", "weight": "1"}
    assert stranger.post(f"{LIST}add/", **fields).status_code == 200
    assert snapshot(LaneSlot) == before


def test_nobody_deletes_a_lane(superuser, row):
    assert superuser.post(f"{LIST}{row.pk}/delete/", post="yes").status_code == 403
    assert LaneSlot.objects.filter(pk=row.pk).exists()
