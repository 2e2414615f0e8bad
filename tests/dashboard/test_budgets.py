"""Budgets in the admin: shown on the run's page, raised there by operators; an agent's and a workspace's by admins."""

import pytest

from agentsys.accounts.models import Role
from agentsys.runs.models import Budget
from tests.dashboard.conftest import run_url, snapshot
from tests.support.priced import MODEL

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}
LIST = "/admin/runs/budget/"

pytestmark = pytest.mark.usefixtures("agent", "priced")


@pytest.fixture
def waiting(submit, worker):
    """A run that waits for its budget of tokens."""
    run = submit([SAY], model=MODEL, limits={"tokens": 10, "cost_usd": 1})
    worker.work()
    return run


def test_the_runs_page_shows_what_is_used_up_and_how_to_go_on(staff, waiting):
    page = staff(Role.OPERATOR).page(run_url(waiting))

    card = page.css_first("#budgets")
    assert "waits for a budget" in card.css_first("h2").text()
    assert [[cell.text() for cell in row.css("td")][:5] for row in card.css("tbody tr")] == [
        ["cost", "this run", "$ 1.0000", "$ 0.0000", "$ 0.0000"],
        ["tokens", "this run", "10", "0", "0"],
    ]
    assert "budget of tokens is used up" in card.text()
    assert page.css(f".as-head a[href='{run_url(waiting, 'limits')}']")


def test_an_operator_raises_a_limit_and_the_run_goes_on(staff, waiting, worker):
    operator = staff(Role.OPERATOR)
    form = operator.page(run_url(waiting, "limits"))
    assert {field.attributes["name"]: field.attributes.get("value") for field in form.css("input[type=text]")} == {
        "tokens": "10", "cost_usd": "1", "parallel": None,
    }  # fmt: skip

    answer = operator.post(run_url(waiting, "limits"), tokens="5000", cost_usd="1")

    assert answer.headers["Location"] == run_url(waiting)
    assert worker.finish(waiting).status == "succeeded"
    assert waiting.limits == {"tokens": 5000, "cost_usd": 1}


@pytest.mark.parametrize("tokens", ["", "x", "-1", "0", "1.5", "NaN", "1e400", "9" * 40, "\0"])
def test_what_is_no_limit_is_asked_for_again(staff, waiting, tokens):
    operator, before = staff(Role.OPERATOR), snapshot(Budget)

    answer = operator.post(run_url(waiting, "limits"), tokens=tokens, cost_usd="1")

    assert answer.status_code == 422
    assert snapshot(Budget) == before


def test_a_viewer_raises_nothing(staff, waiting):
    viewer, before = staff(Role.VIEWER), snapshot(Budget)

    assert not viewer.page(run_url(waiting)).css(f"a[href='{run_url(waiting, 'limits')}']")
    for answer in (
        viewer.get(run_url(waiting, "limits")),
        viewer.post(run_url(waiting, "limits"), tokens="5000"),
    ):
        assert answer.status_code == 403
    assert snapshot(Budget) == before


def test_an_admin_sets_changes_and_takes_away_a_budget(staff, workspace, agent):
    admin = staff(Role.ADMIN)
    made = admin.post(f"{LIST}add/", workspace=workspace.pk, agent=agent.pk, name="cost_usd", limit="2.5")
    assert made.status_code == 302
    row = Budget.objects.get()
    assert (row.agent_id, row.kind, row.lim) == (agent.pk, "cost_micros", 2_500_000)
    assert "$2.500000" in admin.page(LIST).css_first("#result_list").text()

    admin.post(f"{LIST}{row.pk}/change/", limit="9")

    row.refresh_from_db()
    assert row.lim == 9_000_000
    admin.post(f"{LIST}{row.pk}/delete/", post="yes")
    assert not Budget.objects.exists()


def test_a_limit_below_what_is_spent_is_refused_in_words(staff, workspace):
    admin = staff(Role.ADMIN)
    row = Budget.objects.create(workspace=workspace, kind="tokens", lim=500, spent=300, folded=300)

    answer = admin.post(f"{LIST}{row.pk}/change/", limit="299")

    assert "lower than what is spent" in admin.page(answer.headers["Location"]).text()
    row.refresh_from_db()
    assert row.lim == 500


@pytest.mark.parametrize("limit", ["", "x", "-1", "0", "NaN", "Infinity", "9" * 30])
def test_an_admin_is_told_what_is_no_limit(staff, workspace, limit):
    answer = staff(Role.ADMIN).post(f"{LIST}add/", workspace=workspace.pk, name="tokens", limit=limit)

    assert answer.status_code == 200
    assert not Budget.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR])
def test_others_only_look(staff, workspace, role):
    person = staff(role)
    row = Budget.objects.create(workspace=workspace, kind="tokens", lim=500)

    assert person.page(LIST).css_first("#result_list")
    assert person.post(f"{LIST}add/", workspace=workspace.pk, name="tokens", limit="5").status_code == 403
    assert person.post(f"{LIST}{row.pk}/change/", limit="5").status_code == 403
    assert person.post(f"{LIST}{row.pk}/delete/", post="yes").status_code == 403
    row.refresh_from_db()
    assert row.lim == 500


def test_who_chooses_no_agent_sees_that_it_is_the_whole_workspaces(staff, workspace, agent):
    page = staff(Role.ADMIN).page(f"{LIST}add/")

    assert [option.text() for option in page.css("select[name=agent] option")] == ["the whole workspace", agent.slug]
