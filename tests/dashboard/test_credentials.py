"""Credentials in the admin: entered and allowed there by admins, named to authors, shown to nobody."""

import pytest

from agentsys.accounts.credential_terms import Terms
from agentsys.accounts.models import Credential, Role
from agentsys.core import crypto
from agentsys.runs import credentials
from tests.dashboard.conftest import snapshot
from tests.support.canary import CANARY, database, found_in

LIST = "/admin/accounts/credential/"
ADD = f"{LIST}add/"
TERMS = {"to_tools": "http.get\r\n\r\n http.post ", "of_agents": "", "to_hosts": "api.github.com"}

pytestmark = pytest.mark.usefixtures("transactional_db", "agent")


@pytest.fixture
def kept(workspace):
    terms = Terms(tools=["http.get"], hosts=["api.github.com"])
    return credentials.create(workspace.pk, "github", CANARY, terms, user=None).row


def page_of(row):
    return f"{LIST}{row.pk}/change/"


def secret_of(row):
    return crypto.decrypt(bytes(Credential.objects.get(pk=row.pk).ciphertext), place=str(row.pk))


def test_an_admin_enters_a_secret_that_no_page_shows(staff, workspace):
    admin = staff(Role.ADMIN)
    assert admin.page(ADD).css_first("input[name=secret]").attributes["type"] == "password"
    answer = admin.post(ADD, workspace=workspace.pk, name="github", secret=CANARY, **TERMS)

    assert answer.headers["Location"] == LIST
    row = Credential.objects.get()
    assert (row.name, row.tools, row.hosts, secret_of(row)) == (
        "github", ["http.get", "http.post"], ["api.github.com"], CANARY,
    )  # fmt: skip
    pages = [(url, admin.get(url).content.decode()) for url in (LIST, page_of(row), f"{page_of(row)[:-7]}history/")]
    assert "github" in pages[0][1]
    assert found_in([*pages, *database()]) == []
    assert "ciphertext" not in pages[1][1]


def test_a_change_without_a_secret_keeps_it_and_lets_waiting_steps_go_on(staff, kept, submit, worker):
    run = submit([{"key": "a", "tool": "test.leak", "arguments": {"token": "${credential.github}"}}])
    worker.work()
    admin = staff(Role.ADMIN)
    form = admin.page(page_of(kept))
    assert form.css_first("textarea[name=to_tools]").text().strip() == "http.get"
    answer = admin.post(page_of(kept), secret="", to_tools="test.leak", of_agents="", to_hosts="")

    assert answer.headers["Location"] == LIST
    assert secret_of(kept) == CANARY
    assert worker.finish(run).status == "succeeded"


def test_another_secret_replaces_the_first(staff, kept):
    staff(Role.ADMIN).post(page_of(kept), secret="another secret", **TERMS)

    assert secret_of(kept) == "another secret"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "no-name"},
        {"name": ""},
        {"name": CANARY},
        {"secret": "short"},
        {"secret": ""},
        {"secret": CANARY + "\0"},
        {"to_tools": "no tool!"},
        {"to_hosts": "https://a.example"},
        {"of_agents": "a b"},
    ],
)
def test_what_is_no_credential_is_asked_for_again_without_the_secret(staff, workspace, fields):
    given = {"workspace": workspace.pk, "name": "github", "secret": CANARY, **TERMS, **fields}
    answer = staff(Role.ADMIN).post(ADD, **given)

    assert answer.status_code == 200
    if fields.get("name") != CANARY:
        assert found_in([("page", answer.content.decode())]) == []
    assert not Credential.objects.exists()


def test_a_name_that_is_taken_is_said_so(staff, workspace, kept):
    before = snapshot(Credential)
    answer = staff(Role.ADMIN).post(ADD, workspace=workspace.pk, name="github", secret="another secret", **TERMS)

    assert answer.status_code == 200
    assert "already exists" in answer.content.decode()
    assert snapshot(Credential) == before


def test_an_author_sees_names_and_changes_nothing(staff, kept):
    author, before = staff(Role.AUTHOR), snapshot(Credential)

    assert "github" in author.page(LIST).css_first("#result_list").text()
    assert not author.page(page_of(kept)).css("input[name=secret], textarea[name=to_tools]")
    assert author.post(page_of(kept), secret="another secret", **TERMS).status_code == 403
    assert author.get(ADD).status_code == 403
    assert author.post(f"{LIST}{kept.pk}/delete/", post="yes").status_code == 403
    assert snapshot(Credential) == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_viewers_and_operators_see_no_page(staff, kept, role):
    assert staff(role).get(LIST).status_code == 403
    assert staff(role).get(page_of(kept)).status_code == 403


def test_an_admin_of_another_workspace_sees_none(staff, kept, elsewhere, workspace):
    stranger, before = staff(Role.ADMIN, elsewhere), snapshot(Credential)

    assert "github" not in stranger.get(LIST).content.decode()
    assert stranger.get(page_of(kept)).status_code == 302  # Django's way to say that there is none
    stranger.post(page_of(kept), secret="another secret", **TERMS)
    stranger.post(ADD, workspace=workspace.pk, name="mine", secret="another secret", **TERMS)
    assert snapshot(Credential) == before


def test_an_admin_deletes_one(staff, kept):
    admin = staff(Role.ADMIN)
    asked = admin.page(f"{LIST}{kept.pk}/delete/")

    assert found_in([("page", asked.html or "")]) == []
    admin.post(f"{LIST}{kept.pk}/delete/", post="yes")
    assert not Credential.objects.exists()
