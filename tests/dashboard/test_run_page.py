"""One run on one page, and how it follows the run."""

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentsys.accounts.models import Role
from agentsys.runs.models import Run
from agentsys.runs.store import claims
from tests.dashboard.conftest import echo, run_url


def test_a_finished_run_shows_what_it_was_and_what_came_of_it(superuser, submit, worker):
    steps = [echo("fetch", 1, title="Fetch it"), echo("left", "${fetch}"), echo("right", "${fetch}")]
    run = submit(
        [*steps, echo("join", ["${left}", "${right}"])],
        goal="Fetch it and look at both sides",
        labels={"team": "search"},
        input={"deep": ["input"]},
        answer={"both": "${join}"},
    )
    worker.finish(run)

    page = superuser.page(run_url(run))

    text = page.text()
    for part in (
        "Fetch it and look at both sides",
        "succeeded",
        "assistant · version 1",
        "4 of 4 done",
        "team",
        "search",
    ):
        assert part in text
    assert json.loads(page.css_first("#result").text()) == {"both": [1, 1]}
    assert '"deep"' in text
    assert not page.css("[data-live]")


def test_the_plan_is_a_graph_whose_boxes_lead_to_the_steps(superuser, submit, worker, step_of):
    run = submit([echo("a"), echo("b", depends_on=["a"]), {"key": "c", "tool": "test.fail", "depends_on": ["a"]}])
    worker.finish(run)

    plan = superuser.page(run_url(run)).css_first("#plan svg")

    nodes = {node.css_first(".name").text(): node for node in plan.css("a.node")}
    assert set(nodes) == {"a", "b", "c"}
    assert nodes["a"].attributes["href"] == f"/admin/runs/step/{step_of(run, 'a').pk}/change/"
    assert "s-succeeded" in nodes["a"].attributes["class"]
    assert "s-failed" in nodes["c"].attributes["class"]
    assert len(plan.css("path.edge")) == 2


def test_a_page_of_a_moving_run_asks_again_and_is_told_only_news(superuser, submit, worker):
    run = submit([echo("a"), {"key": "b", "tool": "test.far", "depends_on": ["a"]}])
    live = superuser.page(run_url(run)).css_first("#run-live").attributes
    assert (live["data-live"], live["data-seq"]) == (run_url(run, "live"), str(run.event_seq))

    assert superuser.get(live["data-live"], seq=live["data-seq"]).status_code == 204
    worker.drain("compute")
    news = superuser.page(live["data-live"], seq=live["data-seq"])
    assert "s-succeeded" in news.css_first("#plan").html
    assert int(news.css_first("#run-live").attributes["data-seq"]) > int(live["data-seq"])

    worker.finish(run)
    last = superuser.page(live["data-live"], seq=live["data-seq"])
    assert "data-live" not in last.css_first("#run-live").attributes


def test_asking_again_without_news_costs_two_queries_beside_the_session(superuser, submit):
    run = submit([echo("a")])

    with CaptureQueriesContext(connection) as caught:
        superuser.get(run_url(run, "live"), seq=run.event_seq)

    assert len([q for q in caught.captured_queries if "runs_" in q["sql"]]) == 1


@pytest.mark.parametrize("steps", [1, 30])
def test_a_page_costs_the_same_queries_whatever_the_runs_size(superuser, submit, worker, steps):
    run = submit([echo(f"s{number}", "x") for number in range(steps)], files={"a.txt": b"x"})
    worker.finish(run)

    with CaptureQueriesContext(connection) as caught:
        superuser.page(run_url(run, "live"))

    assert len([q for q in caught.captured_queries if "runs_" in q["sql"]]) == 5


def test_a_failed_run_says_why(superuser, submit, worker):
    run = worker.finish(submit([{"key": "a", "tool": "test.fail", "arguments": {"message": "the door was locked"}}]))

    alert = superuser.page(run_url(run)).css_first(".as-alert.s-failed")

    assert "tool_failed" in alert.text()
    assert "the door was locked" in alert.text()


def test_an_attempt_links_to_its_task_in_flower(superuser, submit, worker, settings):
    settings.FLOWER_URL = "https://flower.example/"
    run = worker.finish(submit([echo("a")]))
    task = f"https://flower.example/task/{run.attempts.get().pk}"

    for url in (run_url(run), f"/admin/runs/step/{run.steps.get().pk}/change/", "/admin/runs/attempt/"):
        assert superuser.page(url).css(f"a[href='{task}']")
    assert "Flower" in superuser.page("/admin/").css_first("#nav-sidebar-apps").text()


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "ftp://x"])
def test_without_a_web_address_there_is_no_link_to_flower(superuser, submit, worker, settings, url):
    settings.FLOWER_URL = url
    run = worker.finish(submit([echo("a")]))

    assert not re.search(r'href="[^"]*/task/', superuser.page(run_url(run)).html)
    assert "Flower" not in superuser.page("/admin/").css_first("#nav-sidebar-apps").text()


def test_the_attempt_that_runs_now_is_among_the_attempts(superuser, submit):
    run = submit([echo("a")])
    claim = claims.claim("compute", owner="worker-seven")

    row = superuser.page(run_url(run)).css_first("#attempts tbody tr")

    assert claim.run_id == run.pk
    assert "worker-seven" in row.text()
    assert "running" in row.text()


def test_a_plan_too_large_to_draw_is_a_grid_of_its_steps(superuser, submit):
    run = submit([echo(f"s{number}") for number in range(1_000)])

    page = superuser.page(run_url(run))

    assert len(page.css("#plan a.node rect.cell")) == 1_000
    assert "too many to be drawn" in page.text()
    assert len(page.css("#steps tbody tr")) == 200
    assert "800 more steps" in page.text()


def test_of_too_many_steps_those_that_went_wrong_come_first(superuser, submit, worker):
    run = submit([*[echo(f"s{number}") for number in range(205)], {"key": "bad", "tool": "test.fail"}])
    worker.finish(run)

    assert superuser.page(run_url(run)).css_first("#steps tbody tr a").text() in {"bad", "s0"}
    assert "bad" in superuser.page(run_url(run)).css_first("#steps").text()


def test_a_run_that_never_was_leads_back_to_the_overview(superuser):
    missing = "00000000-0000-7000-8000-000000000000"

    assert superuser.get(f"/admin/runs/run/{missing}/change/").headers["Location"] == "/admin/"
    assert superuser.get("/admin/runs/run/no-uuid/change/").headers["Location"] == "/admin/"
    assert superuser.get(f"/admin/runs/run/{missing}/live/").status_code == 404


# --- What came of an unsafe call ---------------------------------------------------------
def resolve_url(step):
    return f"/admin/runs/step/{step.pk}/resolve/"


def test_an_undecided_call_is_shown_wherever_one_would_look(staff, undecided):
    operator = staff(Role.OPERATOR)
    page = f"/admin/runs/step/{undecided.pk}/change/"

    for url in ("/admin/", run_url(undecided.run)):
        assert operator.page(url).css(f"a[href='{page}#resolve']")
    assert operator.page(page).css("form[action$='/resolve/']")


def test_it_happened_and_the_run_goes_on_with_the_result(staff, undecided, worker):
    staff(Role.OPERATOR).post(resolve_url(undecided), outcome="done", result='{"receipt": 7}')

    run = worker.finish(undecided.run)

    assert (run.status, run.result) == ("succeeded", {"after": {"receipt": 7}})


def test_it_did_not_happen_and_runs_again(staff, undecided):
    staff(Role.OPERATOR).post(resolve_url(undecided), outcome="not_done")

    undecided.refresh_from_db()
    assert undecided.status == "ready"


def test_let_it_fail(staff, undecided, worker):
    staff(Role.OPERATOR).post(resolve_url(undecided), outcome="failed")

    assert worker.finish(undecided.run).status == "failed"


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"outcome": "maybe"},
        {"outcome": "done", "result": "{not json"},
        {"outcome": "done", "result": "[" * 100_000},
    ],
)
def test_a_decision_that_cannot_be_understood_changes_nothing(staff, undecided, sent):
    answer = staff(Role.OPERATOR).post(resolve_url(undecided), **sent)

    assert answer.status_code == 422
    assert "errorlist" in answer.content.decode()
    undecided.refresh_from_db()
    assert undecided.status == "waiting"


def test_a_viewer_does_not_decide(staff, undecided):
    viewer = staff(Role.VIEWER)

    assert not viewer.page(f"/admin/runs/step/{undecided.pk}/change/").css("form[action$='/resolve/']")
    assert viewer.post(resolve_url(undecided), outcome="done").status_code == 403
    undecided.refresh_from_db()
    assert undecided.status == "waiting"


def test_a_decision_is_made_once(staff, undecided):
    operator = staff(Role.OPERATOR)
    operator.post(resolve_url(undecided), outcome="failed")

    operator.post(resolve_url(undecided), outcome="not_done")

    undecided.refresh_from_db()
    assert undecided.status == "failed"
    assert operator.get(resolve_url(undecided)).status_code == 405


def test_a_delegate_step_links_to_its_child_run_on_both_pages(superuser, submit, worker, step_of):
    run = submit([{"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [echo("x")]}}}, echo("y")])
    links = [link.text() for link in superuser.page(run_url(run)).css("#steps a")]
    assert "child run" not in links
    worker.finish(run)
    child = Run.objects.get(parent_step__isnull=False)

    for page in (superuser.page(run_url(run)), superuser.page(f"/admin/runs/step/{step_of(run, 'd').pk}/change/")):
        found = [link.attributes["href"] for link in page.css("a") if "child run" in link.text()]
        assert found == [run_url(child)]
    assert "child run" not in superuser.page(f"/admin/runs/step/{step_of(run, 'y').pk}/change/").text()
