"""Who gets in, who sees what, who may do what."""

import pytest
from django.test import Client

from agentsys.accounts.models import Membership, Role, User
from tests.dashboard.conftest import echo, run_url, snapshot

LISTS = ("run", "step", "attempt", "event", "runfile")


@pytest.fixture
def finished(submit, worker):
    return worker.finish(submit([echo("a", 1)], goal="Count the whales", files={"whales.txt": b"nine"}))


def test_nobody_enters_without_signing_in(finished):
    for url in ("/admin/", run_url(finished), run_url(finished, "live"), run_url(finished, "cancel")):
        answer = Client().get(url)

        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (302, "/admin/login/")


def test_whoever_signs_in_at_the_door_itself_comes_to_the_overview(db):
    User.objects.create_user("eve", password="a long secret", is_staff=True)

    answer = Client().post("/admin/login/", {"username": "eve", "password": "a long secret"})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def test_a_member_who_is_not_staff_does_not_enter(staff, finished):
    answer = staff(Role.ADMIN, is_staff=False).get(run_url(finished))

    assert answer.headers["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("name", LISTS)
def test_a_viewer_sees_the_rows_of_the_own_workspace(staff, finished, name):
    assert staff().page(f"/admin/runs/{name}/").css_first("#result_list tbody tr")


@pytest.mark.parametrize("name", LISTS)
def test_a_stranger_sees_none_of_them(staff, finished, elsewhere, name):
    page = staff(Role.ADMIN, elsewhere).page(f"/admin/runs/{name}/")

    assert not page.css_first("#result_list tbody tr")


def test_a_strangers_run_does_not_exist(staff, finished, elsewhere):
    stranger = staff(Role.ADMIN, elsewhere)
    step, file = finished.steps.get(), finished.files.get()

    for url in (run_url(finished), f"/admin/runs/step/{step.pk}/change/", f"/admin/runs/runfile/{file.pk}/change/"):
        answer = stranger.get(url)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")  # "perhaps it was deleted?"
    for url in (run_url(finished, "live"), run_url(finished, "cancel"), f"/admin/runs/runfile/{file.pk}/content/"):
        assert stranger.get(url).status_code == 404


def test_the_filters_do_not_tell_of_other_workspaces(staff, finished, elsewhere):
    page = staff(Role.ADMIN, elsewhere).page("/admin/runs/run/")

    assert "assistant" not in page.css_first("#changelist-filter").text()


def test_a_superuser_sees_every_workspace(superuser, finished):
    assert "Count the whales" in superuser.page("/admin/runs/run/").text()
    assert "Count the whales" in superuser.page(run_url(finished)).text()


def test_staff_without_a_workspace_see_an_empty_house(staff, finished):
    nobody = staff(None)

    assert "Count the whales" not in nobody.page("/admin/").text()
    assert nobody.get("/admin/runs/run/").status_code == 403


def test_a_viewer_cannot_cancel(staff, submit):
    run = submit([echo("a")])
    viewer = staff(Role.VIEWER)
    before = snapshot(type(run))

    assert not viewer.page(run_url(run)).css("a[href*='/cancel/']")
    assert viewer.get(run_url(run, "cancel")).status_code == 403
    assert viewer.post(run_url(run, "cancel")).status_code == 403
    assert snapshot(type(run)) == before


def test_an_operator_is_asked_first_and_then_cancels(staff, submit):
    run = submit([echo("a")], goal="Stop me")
    operator = staff(Role.OPERATOR)

    assert operator.page(run_url(run)).css("a[href*='/cancel/']")
    assert "Stop me" in operator.page(run_url(run, "cancel")).text()
    run.refresh_from_db()
    assert run.status == "queued"

    answer = operator.post(run_url(run, "cancel"))

    assert answer.headers["Location"] == run_url(run)
    assert "cancelled" in operator.page(run_url(run)).css_first("main, #main").text()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("cancelled", "user")


def test_cancelling_what_has_ended_says_so_and_changes_nothing(staff, finished):
    operator = staff(Role.OPERATOR)
    before = snapshot(type(finished))

    operator.post(run_url(finished, "cancel"))

    assert "already finished" in operator.page(run_url(finished)).text()
    assert snapshot(type(finished)) == before


def test_a_form_from_another_site_is_refused(staff, submit, make_user):
    run = submit([echo("a")])
    make_user("carla", Role.OPERATOR)
    User.objects.filter(username="carla").update(is_staff=True)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="carla"))

    assert client.post(run_url(run, "cancel")).status_code == 403
    run.refresh_from_db()
    assert run.status == "queued"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR, Role.ADMIN])
def test_only_a_superuser_sees_users_and_totals(staff, role):
    for url in ("/admin/accounts/user/", "/admin/accounts/user/add/", "/admin/infrastructure/outcome/"):
        assert staff(role).get(url).status_code == 403


def test_only_an_admin_of_a_workspace_makes_members_and_only_there(staff, make_user, workspace, elsewhere):
    make_user("nina", where=None)
    new = {"username": "nina", "role": "operator"}

    refused = staff(Role.AUTHOR).post("/admin/accounts/membership/add/", workspace=workspace.pk, **new)
    assert refused.status_code == 403
    admin = staff(Role.ADMIN)
    assert admin.post("/admin/accounts/membership/add/", workspace=elsewhere.pk, **new).status_code == 200
    assert not Membership.objects.filter(user__username="nina").exists()

    assert admin.post("/admin/accounts/membership/add/", workspace=workspace.pk, **new).status_code == 302
    assert Membership.objects.get(user__username="nina").role == "operator"


def test_an_admin_in_one_workspace_who_views_another_makes_no_members_there(staff, make_user, elsewhere):
    make_user("nina", where=None)
    admin = staff(Role.ADMIN)
    Membership.objects.create(workspace=elsewhere, user=User.objects.latest("pk"), role=Role.VIEWER)

    admin.post("/admin/accounts/membership/add/", workspace=elsewhere.pk, username="nina", role="admin")

    assert not Membership.objects.filter(user__username="nina").exists()


def test_nobody_raises_a_role_in_a_foreign_workspace(staff, make_user, elsewhere):
    member = Membership.objects.create(workspace=elsewhere, user=make_user("nina", where=None), role=Role.VIEWER)

    staff(Role.ADMIN).post(f"/admin/accounts/membership/{member.pk}/change/", role="admin")

    member.refresh_from_db()
    assert member.role == "viewer"


def test_a_superuser_makes_users_with_a_password_that_works(superuser):
    superuser.post(
        "/admin/accounts/user/add/",
        username="paula",
        usable_password="true",
        password1="a long enough one 7",
        password2="a long enough one 7",
    )

    assert Client().login(username="paula", password="a long enough one 7")


def test_tokens_and_groups_have_no_pages(superuser):
    for url in ("/admin/token_blacklist/outstandingtoken/", "/admin/auth/group/"):
        assert superuser.get(url).status_code == 404
