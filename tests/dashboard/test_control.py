"""The buttons of a run's page: shown where they fit, asked once more, done by the same services as REST."""

import pytest

from agentsys.accounts.models import Role
from agentsys.runs.models import Run
from tests.dashboard.conftest import echo, run_url, snapshot


def offered(page):
    """The names of the page's buttons."""
    return [link.attributes["href"].split("/")[-2] for link in page.css(".as-head a.as-button")]


def test_each_state_has_its_buttons(staff, submit, worker):
    run, operator = submit([echo("a")]), staff(Role.OPERATOR)
    assert offered(operator.page(run_url(run))) == ["pause", "cancel"]

    operator.post(run_url(run, "pause"))
    assert offered(operator.page(run_url(run))) == ["resume", "cancel"]
    operator.post(run_url(run, "resume"))

    worker.finish(run)
    assert offered(operator.page(run_url(run))) == []


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


@pytest.mark.parametrize("name", ["pause", "resume", "retry", "cancel"])
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
