"""The lists: found by filter and search, read with few queries, and never counted."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentsys.accounts.models import Role
from agentsys.dashboard.admin.base import MAX_PAGES, ROWS_A_PAGE
from tests.dashboard.conftest import echo

LISTS = ("run", "step", "attempt", "event", "runfile")


def listed(browser, model, **query):
    """The text of each row."""
    return [row.text() for row in browser.page(f"/admin/runs/{model}/", **query).css("#result_list tbody tr")]


def queries(browser, model, **query):
    with CaptureQueriesContext(connection) as caught:
        browser.page(f"/admin/runs/{model}/", **query)
    return [query["sql"] for query in caught.captured_queries]


@pytest.mark.parametrize("model", LISTS)
def test_a_longer_list_costs_no_more_queries_and_nothing_is_counted(superuser, submit, worker, model):
    worker.finish(submit([echo("a", 1)], files={"a.txt": b"x"}))
    few = queries(superuser, model)
    for number in range(5):
        worker.finish(submit([echo("a", 1), echo("b", 2)], files={f"{number}.txt": b"x"}, goal=f"Goal {number}"))

    many = queries(superuser, model)

    assert len(many) == len(few)
    assert not [sql for sql in many if re.search(r"count\s*\(", sql, re.IGNORECASE)]


@pytest.mark.parametrize("model", LISTS)
def test_a_list_leaves_the_documents_where_they_are(superuser, submit, worker, model):
    worker.finish(submit([echo("a", 1)], input={"k": 1}, files={"a.txt": b"x"}))
    columns = r'"(plan|input|result|output|arguments|content|output_schema)"'

    assert not [sql for sql in queries(superuser, model) if re.search(columns, sql)]


def test_runs_are_found_by_goal_and_by_id(superuser, submit):
    whales, birds = submit([echo("a")], goal="Count the whales"), submit([echo("a")], goal="Count the birds")

    assert ["whales" in row for row in listed(superuser, "run", q="whales")] == [True]
    assert ["birds" in row for row in listed(superuser, "run", q=str(birds.pk))] == [True]
    assert len(listed(superuser, "run", q="count the")) == 2
    assert listed(superuser, "run", q="nothing like it") == []
    assert whales.pk


def test_runs_are_filtered_by_status_agent_label_and_day(superuser, submit, worker, agent):
    worker.finish(submit([echo("a")], goal="Done", labels={"team": "search"}))
    submit([echo("a")], goal="Waits", labels={"team": "mail"})
    today = datetime.now(UTC).date()

    def goals(**query):
        return [text for row in listed(superuser, "run", **query) for text in ("Done", "Waits") if text in row]

    assert goals(status__exact="succeeded") == ["Done"]
    assert goals(agent=str(agent.pk)) == ["Waits", "Done"]
    assert goals(agent="00000000-0000-7000-8000-000000000000") == []
    assert goals(label="team") == ["Waits", "Done"]
    assert goals(label="team=search") == ["Done"]
    assert goals(label="other") == []
    assert goals(**{"from": (today - timedelta(days=1)).isoformat(), "to": today.isoformat()}) == ["Waits", "Done"]
    assert goals(**{"from": (today + timedelta(days=1)).isoformat()}) == []
    assert goals(to=(today - timedelta(days=2)).isoformat()) == []


@pytest.mark.parametrize("model", LISTS)
def test_the_rows_of_one_run_are_a_link_away(superuser, submit, worker, model):
    run = worker.finish(submit([echo("a", 1)], files={"a.txt": b"x"}))
    worker.finish(submit([echo("a", 1)], files={"b.txt": b"y"}))
    if model != "run":
        links = superuser.page(f"/admin/runs/run/{run.pk}/change/").css(f"a[href^='/admin/runs/{model}/?run=']")
        url = links[0].attributes["href"]
        rows = superuser.page(url).css("#result_list tbody tr")
        assert len(rows) == getattr(run, {"runfile": "files"}.get(model, f"{model}s")).count()


def test_steps_are_filtered_by_status_lane_tool_and_key(superuser, submit, worker):
    worker.finish(submit([echo("first"), {"key": "second", "tool": "test.fail"}]))

    assert len(listed(superuser, "step", status__exact="failed")) == 1
    assert len(listed(superuser, "step", lane__exact="compute")) == 2
    assert len(listed(superuser, "step", tool="test.echo")) == 1
    assert len(listed(superuser, "step", q="second")) == 1
    assert len(listed(superuser, "attempt", outcome="failed")) == 1
    assert len(listed(superuser, "event", type="run.failed")) == 1


HOSTILE = ["\0", "'%", "\ud800".encode("utf-8", "surrogatepass").decode("latin1"), "x" * 5_000, "=\u202e"]
PARAMETERS = (
    "q",
    "run",
    "tool",
    "type",
    "label",
    "from",
    "to",
    "agent",
    "workspace",
    "outcome",
    "status__exact",
    "p",
    "o",
)


@pytest.mark.parametrize("model", LISTS)
def test_no_query_string_breaks_a_list(superuser, submit, worker, model):
    worker.finish(submit([echo("a", 1)], files={"a.txt": b"x"}))

    for name in PARAMETERS:
        for value in HOSTILE:
            assert superuser.get(f"/admin/runs/{model}/", **{name: value}).status_code in (200, 302), (name, value)


@pytest.mark.parametrize(
    "query",
    [
        "id__in=\0",
        "goal__contains=\0",
        "run__id__exact=x",
        "created_by__password__startswith=a",
        "workspace__memberships__user__password__startswith=a",
    ],
)
def test_no_lookup_leads_out_of_the_table(staff, submit, query):
    submit([echo("a")])
    viewer = staff(Role.VIEWER)

    for model in LISTS:
        answer = viewer.client.get(f"/admin/runs/{model}/?{query}")
        assert answer.status_code in ((400, 302) if "password" in query else (200, 302, 400)), model


def test_pages_go_back_as_far_as_a_bound(superuser, submit, monkeypatch):
    for number in range(ROWS_A_PAGE + 1):
        submit([echo("a")], goal=f"Goal number {number}.")

    assert "Older" in superuser.page("/admin/runs/run/").text()
    assert [row for row in listed(superuser, "run", p=2) if "Goal number 0." in row]
    assert listed(superuser, "run", p=MAX_PAGES) == []
    assert superuser.get("/admin/runs/run/", p=MAX_PAGES + 1).status_code == 302


def test_who_sees_one_workspace_reads_it_by_its_own_index(staff, submit):
    submit([echo("a")])

    reads = [sql for sql in queries(staff(Role.VIEWER), "run") if '"runs_run"' in sql]

    assert 'ORDER BY "runs_run"."id" DESC' in reads[0]
