"""How long history is kept, in the admin: read by all members, set by admins of the workspace."""

import pytest
from django.contrib.admin.models import LogEntry

from agentsys.accounts.models import Role
from agentsys.runs import retention
from agentsys.runs.models import Retention
from tests.dashboard.conftest import snapshot

LIST = "/admin/runs/retention/"


@pytest.fixture
def row(workspace):
    return retention.set_policy(workspace.pk, runs_days=7.0)


def times(row):
    row.refresh_from_db()
    return row.runs_days, row.history_days, row.keys_days, row.paused


def test_a_viewer_reads_the_own_workspaces_times_and_what_stands_for_none(staff, row, elsewhere, settings):
    settings.KEEP_HISTORY_DAYS, settings.KEEP_KEYS_DAYS = 3, 0
    retention.set_policy(None, paused=True)
    (line,) = staff(Role.VIEWER).page(LIST).css("#result_list tbody tr")

    assert [cell.text().strip() for cell in line.css("th, td")][:4] == [
        "home", "7 days", "3 days (the installation's)", "as long as their runs (the installation's)",
    ]  # fmt: skip
    assert not staff(Role.ADMIN, elsewhere).page(LIST).css("#result_list tbody tr")


def test_an_admin_sets_changes_and_takes_away_a_workspaces_times(staff, workspace):
    admin = staff(Role.ADMIN)
    made = admin.post(f"{LIST}add/", workspace=workspace.pk, runs_days="30", history_days="", keys_days="0.5")
    assert made.status_code == 302
    row = Retention.objects.get()
    assert (row.workspace_id, times(row)) == (workspace.pk, (30, None, 0.5, False))

    admin.post(f"{LIST}{row.pk}/change/", runs_days="0", history_days="5", keys_days="", paused="on")

    assert times(row) == (0, 5, None, True)
    assert LogEntry.objects.filter(object_id=str(row.pk)).count() == 2
    admin.post(f"{LIST}{row.pk}/delete/", post="yes")
    assert not Retention.objects.exists()


def test_a_workspace_has_its_times_once(staff, row, workspace):
    answer = staff(Role.ADMIN).post(f"{LIST}add/", workspace=workspace.pk, runs_days="1")

    assert answer.status_code == 200
    assert "already exists" in answer.content.decode()
    assert times(row) == (7, None, None, False)


@pytest.mark.parametrize("days", ["-1", "x", "nan", "inf", "36501", "1e400", "\0"])
@pytest.mark.parametrize("field", ["runs_days", "history_days", "keys_days"])
def test_what_is_no_number_of_days_is_told_on_the_form(staff, row, field, days):
    answer = staff(Role.ADMIN).post(f"{LIST}{row.pk}/change/", **{"runs_days": "7", field: days})

    assert answer.status_code == 200
    assert times(row) == (7, None, None, False)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR])
def test_who_is_no_admin_sets_nothing(staff, row, workspace, role):
    person, before = staff(role), snapshot(Retention)

    for url in (f"{LIST}{row.pk}/change/", f"{LIST}add/"):
        assert person.post(url, workspace=workspace.pk, runs_days="1").status_code == 403
    assert person.post(f"{LIST}{row.pk}/delete/", post="yes").status_code == 403
    assert snapshot(Retention) == before


def test_an_admin_of_a_workspace_pauses_it_and_not_the_installation(staff, workspace, elsewhere):
    admin = staff(Role.ADMIN)
    everybody = retention.set_policy(None, paused=False)

    assert admin.post(f"{LIST}add/", workspace="", paused="on").status_code == 200
    assert admin.post(f"{LIST}add/", workspace=elsewhere.pk, paused="on").status_code == 200
    assert admin.post(f"{LIST}{everybody.pk}/change/", paused="on").status_code == 302  # there is no such row
    assert not Retention.objects.filter(paused=True).exists()
    admin.post(f"{LIST}add/", workspace=workspace.pk, paused="on")
    assert Retention.objects.get(paused=True).workspace_id == workspace.pk


def test_a_superuser_pauses_the_whole_installation_and_sets_no_times_for_it_here(superuser, db):
    refused = superuser.post(f"{LIST}add/", workspace="", runs_days="5")
    assert refused.status_code == 200
    assert "AGENTSYS_KEEP_" in refused.content.decode()
    assert not Retention.objects.exists()

    assert superuser.post(f"{LIST}add/", workspace="", paused="on").status_code == 302

    row = Retention.objects.get()
    assert (row.workspace_id, row.paused) == (None, True)
    assert superuser.post(f"{LIST}{row.pk}/change/", runs_days="5", paused="on").status_code == 200
    superuser.post(f"{LIST}{row.pk}/change/")
    assert times(row) == (None, None, None, False)


def test_who_may_pause_all_sees_what_no_workspace_means(superuser, staff, workspace):
    first = [
        browser.page(f"{LIST}add/").css("select[name=workspace] option")[0]
        for browser in (superuser, staff(Role.ADMIN))
    ]

    assert [option.text() for option in first] == ["all workspaces (only pauses)", "Select value"]
