"""The buttons of a run's page: shown where they fit, asked once more, done by the same services as REST."""

import pytest

from agentsys.accounts.models import Membership, Role, User
from agentsys.dashboard.admin import run_control
from agentsys.runs.models import Run
from tests.dashboard.conftest import echo, run_url, snapshot


def offered(page):
    """The names of the page's buttons."""
    return [link.attributes["href"].split("/")[-2] for link in page.css(".as-head a.as-button")]


def test_each_state_has_its_buttons(staff, submit, worker):
    run, operator = submit([echo("a")]), staff(Role.OPERATOR)
    assert offered(operator.page(run_url(run))) == ["pause", "cancel", "limits"]

    operator.post(run_url(run, "pause"))
    assert offered(operator.page(run_url(run))) == ["resume", "cancel", "limits"]
    operator.post(run_url(run, "resume"))

    worker.finish(run)
    assert offered(operator.page(run_url(run))) == []


def test_a_run_is_given_a_cap_while_it_moves_and_none_when_it_has_ended(staff, submit, worker):
    run, operator = submit([echo("a"), echo("b"), echo("c")]), staff(Role.OPERATOR)

    operator.post(run_url(run, "limits"), parallel="1")

    run.refresh_from_db()
    assert (run.limits, run.steps.filter(held="parallel").count()) == ({"parallel": 1}, 2)
    worker.finish(run)
    for answer in (operator.get(run_url(run, "limits")), operator.post(run_url(run, "limits"), parallel="2")):
        assert (answer.status_code, answer.headers["Location"]) == (302, run_url(run))
    run.refresh_from_db()
    assert run.limits == {"parallel": 1}


def test_an_operator_pauses_and_resumes(staff, submit, worker):
    run, operator = submit([echo("a")], goal="Hold me"), staff(Role.OPERATOR)
    assert "Hold me" in operator.page(run_url(run, "pause")).text()
    run.refresh_from_db()
    assert run.status == "queued"

    answer = operator.post(run_url(run, "pause"))

    assert answer.headers["Location"] == run_url(run)
    assert "paused" in operator.page(run_url(run)).css_first(".as-big").text()
    assert worker.work() == 0
    operator.post(run_url(run, "resume"))
    assert worker.finish(run).status == "succeeded"


def test_an_operator_retries_and_is_led_to_the_new_run(staff, submit, worker):
    run, operator = worker.finish(submit([{"key": "a", "tool": "test.fail"}])), staff(Role.OPERATOR)
    assert offered(operator.page(run_url(run))) == ["retry"]

    answer = operator.post(run_url(run, "retry"))

    made = Run.objects.get(parent_run=run)
    assert answer.headers["Location"] == run_url(made)
    assert operator.page(run_url(made)).css(f"a[href='{run_url(run)}']")


def test_an_operator_asks_for_another_plan_in_words(staff, submit, worker):
    run, operator = submit([echo("a"), echo("b", "${a}", tool="test.far")], goal="Do it"), staff(Role.OPERATOR)
    assert "replan" in offered(operator.page(run_url(run)))
    assert operator.page(run_url(run, "replan")).css_first("textarea[name=text]")
    worker.drain("compute")

    answer = operator.post(run_url(run, "replan"), text="Compute 20 * 3")

    assert answer.headers["Location"] == run_url(run)
    assert worker.finish(run).result == 60
    page = operator.page(run_url(run))
    assert [node.css_first("title").text() for node in page.css(".node.is-old")] == ["b.v0 — superseded by a new plan"]
    assert page.css(".as-reason")[0].text() == "superseded"


def test_another_plan_without_a_word_or_a_goal_is_not_asked_for(staff, submit):
    run, fixed, operator = submit([echo("a")], goal="Do it"), submit([echo("a")]), staff(Role.OPERATOR)
    before = snapshot(Run)

    operator.post(run_url(run, "replan"), text="  ")
    operator.post(run_url(fixed, "replan"), text="Otherwise.")

    assert "replan" not in offered(operator.page(run_url(fixed)))
    assert snapshot(Run) == before


@pytest.mark.parametrize("name", ["pause", "resume", "retry", "cancel", "replan"])
def test_a_viewer_controls_nothing(staff, submit, name):
    run, viewer = submit([echo("a")]), staff(Role.VIEWER)
    before = snapshot(Run)

    assert offered(viewer.page(run_url(run))) == []
    assert viewer.get(run_url(run, name)).status_code == 403
    assert viewer.post(run_url(run, name)).status_code == 403
    assert snapshot(Run) == before


def test_what_cannot_be_done_says_so(staff, submit):
    run, operator = submit([echo("a")]), staff(Role.OPERATOR)

    operator.post(run_url(run, "resume"))

    assert "not paused" in operator.page(run_url(run)).text()


# --- Several at once, from the list -------------------------------------------------------
LIST = "/admin/runs/run/"


def ticked(browser, action, *runs, **more):
    return browser.post(LIST, action=action, _selected_action=[str(getattr(run, "pk", run)) for run in runs], **more)


def test_the_runs_that_are_ticked_are_paused_and_the_others_are_not(staff, submit, worker):
    operator = staff(Role.OPERATOR)
    runs = [worker.finish(submit([echo("a")])), *(submit([echo("a")]) for _ in range(3))]

    ticked(operator, "pause", *runs[:3])

    said = operator.page(LIST).text()
    assert "done for 2 of 3 runs" in said
    assert "not done for 1 runs" in said
    assert list(Run.objects.order_by("pk").values_list("status", flat=True)) == [
        "succeeded",
        "paused",
        "paused",
        "queued",
    ]
    ticked(operator, "resume", *runs[1:3])
    ticked(operator, "cancel", *runs[1:])
    assert Run.objects.filter(status="cancelled").count() == 3
    ticked(operator, "retry", runs[1])
    assert Run.objects.filter(parent_run=runs[1]).count() == 1


def test_a_viewer_is_offered_nothing_and_a_stranger_reaches_nothing(staff, submit, elsewhere):
    run = submit([echo("a")])
    before = snapshot(Run)
    viewer, stranger = staff(Role.VIEWER), staff(Role.ADMIN, elsewhere)

    assert not viewer.page(LIST).css("select[name=action]")
    ticked(viewer, "cancel", run), ticked(stranger, "cancel", run)

    assert snapshot(Run) == before


def test_who_may_it_in_one_workspace_does_it_only_there(staff, submit, elsewhere):
    run, both = submit([echo("a")]), staff(Role.OPERATOR, elsewhere)
    Membership.objects.create(workspace=run.workspace, user=User.objects.latest("pk"), role=Role.VIEWER)
    before = snapshot(Run)

    ticked(both, "cancel", run)

    assert "does not allow" in both.page(LIST).text()
    assert snapshot(Run) == before


@pytest.mark.parametrize("pk", ["", "x", "\0", "1' OR 1=1"])
def test_what_is_no_run_is_no_row(superuser, submit, pk):
    submit([echo("a")])
    before = snapshot(Run)

    assert ticked(superuser, "cancel", pk).status_code in (200, 302)

    assert snapshot(Run) == before


def test_too_many_at_once_are_refused_as_a_whole(superuser, submit, monkeypatch):
    monkeypatch.setattr(run_control, "MAX_AT_ONCE", 2)
    for _ in range(3):
        submit([echo("a")])
    before = snapshot(Run)

    ticked(superuser, "cancel", *Run.objects.all(), select_across="1")

    assert snapshot(Run) == before
