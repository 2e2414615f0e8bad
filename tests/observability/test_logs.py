"""Logs: one JSON object a line, ids of request and step in it, secrets never."""

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from django.conf import settings

from agentsys.core.logs import MASK, logging_config, masked

KEY = "ask_AbCdEf0123456789"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl"


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged since, parsed."""
    written = io.StringIO()
    config = logging_config("INFO")
    config["handlers"]["stderr"]["stream"] = written
    logging.config.dictConfig(config)
    structlog.contextvars.clear_contextvars()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.contextvars.clear_contextvars()
    logging.config.dictConfig(settings.LOGGING)


def test_a_line_is_json_with_the_ids_of_its_context(lines):
    structlog.contextvars.bind_contextvars(request_id="q", run="r", step="fetch", attempt="t")
    logging.getLogger("agentsys.runs.engine").warning("step %s is late", "fetch")
    structlog.get_logger("agentsys").info("submitted", steps=3)

    first, second = lines()

    assert first["event"] == "step fetch is late"
    assert (first["level"], first["logger"]) == ("warning", "agentsys.runs.engine")
    ids = {"request_id": "q", "run": "r", "step": "fetch", "attempt": "t"}
    assert first.items() >= ids.items()
    assert second.items() >= {"event": "submitted", "steps": 3, **ids}.items()


def test_an_exception_is_one_line_and_its_secrets_are_masked(lines):
    try:
        raise ValueError(f"login with password=hunter22 and {KEY}")
    except ValueError:
        logging.getLogger("x").exception("failed")

    (line,) = lines()

    assert "ValueError" in line["exception"]
    assert "hunter22" not in line["exception"]
    assert KEY not in line["exception"]


@pytest.mark.parametrize(
    "name",
    ["password", "SECRET_KEY", "api_key", "apiKey", "X-Api-Key", "Authorization", "access_token", "set-cookie", "jwt"],
)
def test_values_under_secret_names_are_masked(name):
    assert masked({"outer": [{name: "plain"}]}) == {"outer": [{name: MASK}]}


@pytest.mark.parametrize("name", ["input_tokens", "keyboard", "key", "monkey", "passwordless_steps", "step_key"])
def test_harmless_names_are_not_masked(name):
    assert masked({name: 7, "text": "fine"}) == {name: 7, "text": "fine"}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Bearer {TOKEN}", TOKEN),
        (f"authorization: bearer {KEY}", KEY),
        ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("postgresql://agentsys:s3cr3t@127.0.0.1:5432/agentsys", "s3cr3t"),
        ("redis://:s3cr3t@127.0.0.1:6379/0", "s3cr3t"),
        ("GET /?token=s3cr3t&page=2", "s3cr3t"),
        ('{"password": "s3cr3t"}', "s3cr3t"),
        ("using sk-proj-0123456789abcdef", "sk-proj-0123456789abcdef"),
        (f"key {KEY} was used", KEY),
    ],
)
def test_secrets_inside_text_are_masked(text, secret):
    assert secret not in masked(text)
    assert MASK in masked(text)


def test_ordinary_text_stays_as_it_is():
    for text in ("3 steps of https://example.org/a?page=2", "key=value", "ask_me", "tokens: 12 of 40"):
        assert masked(text) == text


def test_hostile_values_do_no_harm():
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    assert "…" in json.dumps(masked(deep), ensure_ascii=False)
    assert masked({1: b"\xff", "x": {"y"}}) == {1: "\ufffd", "x": ["y"]}


@pytest.mark.django_db
def test_what_somebody_may_not_do_is_a_line_and_no_traceback(lines, client, django_user_model):
    client.force_login(django_user_model.objects.create(username="v", is_staff=True))

    assert client.get("/admin/agents/agent/add/").status_code == 403

    refusals = [line for line in lines() if "Forbidden" in line["event"]]
    assert len(refusals) == 1
    assert "exception" not in refusals[0]
