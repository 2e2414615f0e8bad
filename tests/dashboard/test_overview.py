"""The first page, and what every page carries."""

import re
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from agentsys.accounts.models import Role
from agentsys.dashboard import navigation
from agentsys.dashboard.pages import overview
from agentsys.infrastructure import rollup
from agentsys.infrastructure.models import Outcome, Worker
from tests.dashboard.conftest import echo


def tiles(page):
    return {tile.text().strip("0123456789 \n"): int(tile.css_first("b").text()) for tile in page.css(".as-tile")}


def test_the_overview_tells_what_moves_waits_and_failed(superuser, submit, worker):
    worker.finish(submit([{"key": "a", "tool": "test.fail", "arguments": {"message": "no luck"}}], goal="Try it"))
    submit([{"key": "a", "tool": "test.charge", "arguments": {"how": "unknown"}}])
    worker.work()
    submit([{"key": "a", "tool": "test.far"}], goal="Lies there")
    Outcome.objects.create(kind="run", outcome="failed", count=1_234, seconds=617)

    page = superuser.page("/admin/")

    assert tiles(page) == {"queued": 1, "running": 0, "waiting": 1, "paused": 0, "cancelling": 0}
    text = page.css_first("#overview").text()
    for part in (
        "Try it",
        "no luck",
        "Lies there",
        "may or may not have happened",
        "1,234",
        "500 ms",
        "nobody works here",
    ):
        assert part in text


def test_totals_have_no_row_of_the_counters_own(superuser, submit, worker):
    worker.finish(submit([echo("a")]))
    rollup.roll_up(margin_s=0)
    assert Outcome.objects.filter(kind="cursor").exists()

    for url in ("/admin/", "/admin/infrastructure/outcome/"):
        page = superuser.page(url)
        kinds = {row.css_first("td, th").text().strip() for row in page.css("tbody tr")}
        assert kinds >= {"run", "tool"}
        assert "cursor" not in page.text()


def test_the_bare_address_leads_to_the_overview(superuser):
    answer = superuser.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def test_a_worker_that_has_not_been_seen_for_a_minute_is_silent(superuser, db):
    for name, ago_s, draining in (("fresh", 1, False), ("leaving", 1, True), ("gone", 90, False)):
        seen_at = timezone.now() - timedelta(seconds=ago_s)
        Worker.objects.create(name=name, host="h", lane="compute", pid=1, seen_at=seen_at, draining=draining)

    for url in ("/admin/", "/admin/infrastructure/worker/"):
        rows = {row.text().replace("\n", " ") for row in superuser.page(url).css("tbody tr")}
        for name, state in (("fresh", "working"), ("leaving", "draining"), ("gone", "silent")):
            assert [row for row in rows if name in row and state in row], (url, name)


def lanes_of(page):
    """{lane: [queued, ready]}"""
    table = next(table for table in page.css("table") if "Queued" in table.text())
    return {row.css("td")[0].text(): [cell.text() for cell in row.css("td")[1:3]] for row in table.css("tbody tr")}


def test_a_lane_shows_what_waits_for_a_slot_beside_what_is_ready(superuser, staff, submit, settings, elsewhere):
    settings.LANE_SLOTS = 1
    submit([echo("a"), echo("b"), echo("c")])

    nothing = {"model": ["0", "0"], "network": ["0", "0"], "system": ["0", "0"]}
    assert lanes_of(superuser.page("/admin/")) == nothing | {"compute": ["2", "1"]}
    assert lanes_of(staff(Role.ADMIN, elsewhere).page("/admin/")) == nothing | {"compute": ["0", "0"]}


def test_a_deep_queue_is_counted_up_to_a_bound(superuser, submit, settings, monkeypatch):
    monkeypatch.setattr(overview, "MAX_DEPTH", 2)
    settings.LANE_SLOTS = 1
    submit([echo(key) for key in "abcdef"])

    assert lanes_of(superuser.page("/admin/"))["compute"] == ["more than 2", "1"]


def test_a_member_sees_only_the_own_workspaces_work(staff, submit, elsewhere):
    submit([echo("a")], goal="Ours")

    page = staff(Role.ADMIN, elsewhere).page("/admin/")

    assert set(tiles(page).values()) == {0}
    assert "Ours" not in page.text()
    assert "All that ever ended" not in page.text()


def test_the_overview_asks_little_and_counts_only_what_is_live_or_bounded(superuser, submit):
    submit([echo("a")])

    with CaptureQueriesContext(connection) as caught:
        superuser.page("/admin/overview/")

    asked = [query["sql"] for query in caught.captured_queries if re.search("runs_|infrastructure_", query["sql"])]
    assert len(asked) <= 15
    for sql in asked:
        if "COUNT(" in sql:
            assert "LIMIT" in sql or '"finished_at" IS NULL' in sql


def test_the_overview_refreshes_itself(superuser, db):
    part = superuser.page("/admin/").css_first("#overview").attributes

    again = superuser.page(part["data-live"])

    assert again.css_first("#overview")
    assert not again.css("#nav-sidebar-apps")


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.ADMIN])
def test_every_link_of_the_sidebar_may_be_followed(staff, role):
    browser = staff(role) if role else staff(None)
    links = [link.attributes["href"] for link in browser.page("/admin/").css("#nav-sidebar-apps a")]

    assert len(links) > 5
    refused = [link for link in links if link.startswith("/admin/") and browser.get(link).status_code != 200]
    assert refused == ([] if role else [link for link in links if link.count("/") == 4])


def test_the_documentation_is_where_the_sidebar_says(superuser):
    assert resolve(navigation.API_DOCS)


# --- Content security -----------------------------------------------------------------
def policy(answer):
    found = answer.headers["Content-Security-Policy"]
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in found.split(";"))}


def test_the_policy_is_relaxed_for_the_admins_own_pages_only(superuser, db):
    for answer in (superuser.get("/admin/"), superuser.get("/admin/runs/run/"), Client().get("/admin/login/")):
        relaxed = policy(answer)
        assert relaxed["script-src"] == "'self' 'unsafe-eval'"
        assert relaxed["style-src"] == "'self' 'unsafe-inline'"
        assert (relaxed["default-src"], relaxed["object-src"], relaxed["frame-ancestors"]) == (
            "'self'",
            "'none'",
            "'none'",
        )
    for url in ("/admin/no-such-page-at-all", "/nowhere", "/api/v1/me"):
        strict = policy(Client().get(url))
        assert "unsafe" not in "".join(strict.values()), url


def test_no_page_carries_a_script_of_its_own(superuser, submit, worker):
    run = worker.finish(submit([echo("a")]))

    for url in ("/admin/", "/admin/runs/run/", f"/admin/runs/run/{run.pk}/change/", "/admin/agents/agent/add/"):
        assert all(script.attributes.get("src") for script in superuser.page(url).css("script")), url


def test_an_error_page_is_plain_and_tells_nothing(staff):
    answer = staff(Role.VIEWER).get("/admin/accounts/user/")

    assert answer.status_code == 403
    assert "Ask an admin" in answer.content.decode()
    missing = Client().get("/nowhere")
    assert (missing.status_code, settings.DEBUG) == (404, False)
    assert "Not here" in missing.content.decode()


def test_under_asgi_the_policy_is_the_same(superuser, db):
    async def ask(url):
        client = AsyncClient()
        client.cookies = superuser.client.cookies
        return await client.get(url)

    assert policy(async_to_sync(ask)("/admin/"))["script-src"] == "'self' 'unsafe-eval'"
    assert policy(async_to_sync(ask)("/nowhere"))["script-src"] == "'self'"
