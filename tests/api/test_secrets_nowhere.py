"""A secret that careless tools repeat wherever they can is found nowhere afterwards."""

import asyncio
import logging
import logging.config
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from agentsys.accounts.models import Credential, Role, User
from agentsys.core import crypto
from agentsys.runs.models import Run
from tests.api.test_events import opened, path_of
from tests.support import tools
from tests.support.canary import CANARY, database, found_in
from tests.support.web import Seen, Web, answer

PLAIN = "canary-51c0ffee9a7b4d2e"
LISTS = (
    "me", "runs", "approvals", "agents", "budgets", "credentials", "lanes", "tools", "workers", "mcp-servers",
)  # fmt: skip
PARTS = ("", "/steps", "/events", "/files", "/blockers", "/budget", "/messages", "/model-calls")
KEYS = [crypto.derived_key(f"key {number}") for number in range(3)]

pytestmark = pytest.mark.usefixtures("agent", "transactional_db")


@pytest.fixture
def boss(member: Any) -> Any:
    return member(Role.ADMIN)


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        web.pages["/echo"] = _echo
        yield web


async def _echo(seen: Seen, writer: Any) -> None:
    said = seen.headers["authorization"]
    await answer(f"you sent {said}".encode(), headers={"X-Said": said})(seen, writer)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What this process writes, as it is written: through the installation's own formatter."""
    written = StringIO()
    about = django_settings.LOGGING["formatters"]["json"]
    made = logging.config.DictConfigurator({"version": 1}).configure_formatter(dict(about))
    handler = logging.StreamHandler(written)
    handler.setFormatter(made)
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


def enter(client: Any, name: str, secret: str, **terms: Any) -> None:
    made = client.post("/api/v1/credentials", {"name": name, "secret": secret, **terms}, format="json")
    assert made.status_code == 201, made.content


def leak(key: str, how: str = "", tool: str = "test.leak") -> dict[str, Any]:
    arguments = {"token": "Bearer ${credential.github}", "how": how}
    return {"key": key, "tool": tool, "arguments": arguments}


def rest(client: Any, run: Run) -> list[tuple[str, str]]:
    paths = [f"/api/v1/{name}" for name in LISTS] + [f"/api/v1/runs/{run.pk}{part}" for part in PARTS]
    paths += [f"/api/v1/runs/{run.pk}/steps/{step.key}" for step in run.steps.all()]
    paths += [f"/api/v1/runs/{run.pk}/files/{name}" for name in run.files.values_list("name", flat=True)]
    answers = [(path, client.get(path)) for path in paths]
    assert {(path, got.status_code) for path, got in answers if got.status_code != 200} == set()
    return [(path, _body(got)) for path, got in answers]


def _body(got: Any) -> str:
    body = b"".join(got.streaming_content) if got.streaming else got.content
    return f"{dict(got.headers)} {body.decode(errors='replace')}"


def pages(client: Client) -> list[tuple[str, str]]:
    """Of the admin: every list, and the page and the history of every row."""
    found = []
    for model in admin.site._registry:
        at = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        urls = [reverse(f"{at}_changelist")]
        for row in model._default_manager.all()[:50]:
            urls += [reverse(f"{at}_{page}", args=[row.pk]) for page in ("change", "history")]
        found += [(url, client.get(url, follow=True)) for url in urls]
    assert {(url, got.status_code) for url, got in found if got.status_code >= 500} == set()
    return [(url, got.content.decode()) for url, got in found]


def streamed(client: Any, run: Run) -> list[tuple[str, str]]:
    async def follow() -> list[str]:
        async with opened(client, path_of(run)) as stream:
            return await stream.rest()

    return [("stream", frame) for frame in asyncio.run(follow())]


@pytest.mark.parametrize("secret", [CANARY, PLAIN], ids=["hostile", "plain"])
def test_a_secret_that_tools_repeat_is_nowhere(
    boss: Any, submit: Any, worker: Any, web: Web, log: StringIO, secret: str
) -> None:
    names = ["test.leak", "test.leak_slowly", "test.leak_file", "test.keyed"]
    enter(boss, "github", secret, tools=names)
    enter(boss, "header", PLAIN, tools=["http.get"], hosts=[web.address])
    headers = {"Authorization": "Bearer ${credential.header}"}
    got = {"key": "get", "tool": "http.get", "arguments": {"url": web.url("/echo"), "headers": headers}}
    file = {"key": "file", "tool": "test.leak_file", "arguments": {"token": "${credential.github}"}}
    asked = {"key": "asked", "tool": "test.keyed", "arguments": {}}
    again = {"key": "again", "tool": "test.echo", "arguments": {"value": ["${said}", "${get}"]}}
    slow = leak("slow", tool="test.leak_slowly")
    plans = [[leak("said"), leak("logged", "log"), slow, got, file, asked, again]]
    plans += [[leak("a", "raise")], [leak("a", "bug")], [leak("a", "raise", "test.leak_slowly")]]
    runs = [submit(plan) for plan in plans]
    tools.calls.clear()
    ended = [worker.finish(run).status for run in runs]

    assert ended == ["succeeded", "failed", "failed", "failed"]
    assert tools.calls.count(("leak", f"Bearer {secret}")) == 4
    assert [seen.headers["authorization"] for seen in web.seen] == [f"Bearer {PLAIN}"]
    root = Client()
    root.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    everywhere = {
        "database": database(), "log": [("log", log.getvalue())], "admin": pages(root),
        "rest": [one for run in runs for one in rest(boss, run)],
        "stream": [one for run in runs for one in streamed(boss, run)],
    }  # fmt: skip
    for place, texts in everywhere.items():
        assert any("github" in text or "redacted" in text for _, text in texts), f"nothing was looked at: {place}"
        assert [*found_in(texts, secret), *found_in(texts, PLAIN)] == [], place


def test_after_a_rotation_the_old_key_is_needed_no_longer(boss: Any, submit: Any, worker: Any, settings: Any) -> None:
    settings.VAULT_KEYS = KEYS[:1]
    for number in range(3):
        enter(boss, f"c{number}", f"{PLAIN}-{number}", tools=["test.leak"])
    settings.VAULT_KEYS = [KEYS[1], KEYS[0]]
    said = StringIO()
    call_command("rotate_credentials", stdout=said)
    assert said.getvalue() == "3 credentials are encrypted by the first key\n"

    settings.VAULT_KEYS = KEYS[1:2]
    tools.calls.clear()
    run = submit([{"key": "a", "tool": "test.leak", "arguments": {"token": "${credential.c0}"}}])
    assert worker.finish(run).status == "succeeded"
    assert ("leak", f"{PLAIN}-0") in tools.calls


def test_a_rotation_names_what_no_key_opens_and_changes_the_rest_only(boss: Any, settings: Any) -> None:
    settings.VAULT_KEYS = KEYS[:1]
    enter(boss, "lost", f"{PLAIN}-lost", tools=["test.leak"])
    settings.VAULT_KEYS = KEYS[1:2]
    enter(boss, "kept", f"{PLAIN}-kept", tools=["test.leak"])
    before = bytes(Credential.objects.get(name="lost").ciphertext)

    settings.VAULT_KEYS = [KEYS[2], KEYS[1]]
    with pytest.raises(CommandError, match=r"1 are opened by none of the keys.*/lost") as refused:
        call_command("rotate_credentials", stdout=StringIO())
    assert PLAIN not in str(refused.value)
    assert bytes(Credential.objects.get(name="lost").ciphertext) == before
    settings.VAULT_KEYS = KEYS[2:]
    kept = Credential.objects.get(name="kept")
    assert crypto.decrypt(bytes(kept.ciphertext), place=str(kept.pk)) == f"{PLAIN}-kept"
