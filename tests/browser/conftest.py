"""Chromium on real pages of a real server, and a page that forgives nothing."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright

from agentsys.accounts.models import Membership, User, Workspace

#: Root has no sandbox, and nothing is to be asked of the world outside.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests.  Without one they are left out; in CI that is a failure."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        message = "no Chromium here (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    # Playwright's loop runs in this thread; the tests' own queries do not run in it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(chromium: Browser, live_server: Any) -> Iterator[Callable[..., Page]]:
    """Makes pages on the live server.  At the end nothing may have gone wrong on any of them."""
    wrong: list[str] = []
    contexts = []

    def make(**options: Any) -> Page:
        context = chromium.new_context(base_url=live_server.url, viewport={"width": 1440, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        _watch(page, live_server.url, wrong)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


def _watch(page: Page, origin: str, wrong: list[str]) -> None:
    """Violations of the content policy are errors on the console."""
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("requestfailed", lambda asked: _failed(asked, wrong))
    page.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.on("request", lambda asked: _left(asked.url, origin, wrong))


def _failed(asked: Any, wrong: list[str]) -> None:
    if "ERR_ABORTED" not in (asked.failure or ""):  # a page that was left while it asked
        wrong.append(f"{asked.failure} {asked.url}")


def _left(url: str, origin: str, wrong: list[str]) -> None:
    if not url.startswith((origin, "data:", "blob:")):
        wrong.append(f"asked another host: {url}")


@pytest.fixture
def sign_in(open_page: Callable[..., Page], workspace: Workspace, live_server: Any) -> Callable[..., Page]:
    """A page of somebody in this role, who is signed in already."""

    def make(role: str = "operator", **options: Any) -> Page:
        user = User.objects.create(username=f"user-{User.objects.count()}", is_staff=True)
        Membership.objects.create(workspace=workspace, user=user, role=role)
        client = Client()
        client.force_login(user)
        page = open_page(**options)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        return page

    return make


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keeps a picture of a page in the folder that SCREENSHOTS names, to be looked at."""

    def take(page: Page, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return take
