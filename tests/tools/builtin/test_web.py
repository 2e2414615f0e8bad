"""A search of the web, by a server that speaks as SearXNG does."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from agentsys.core.errors import (
    AddressDenied,
    NotConfigured,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
    ToolRateLimited,
    ToolUnavailable,
)
from tests.support.web import Web, answer, redirect

HIT = {"title": "T", "url": "https://example.com/", "content": "C", "engine": "x", "score": 1.0}


@pytest.fixture
def engine(settings):
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        settings.SEARCH_URL = web.url("/")
        yield web


def says(engine: Web, value: object, **how: object) -> None:
    engine.pages["/search"] = answer(json.dumps(value).encode(), content_type="application/json", **how)


def test_results_are_titles_addresses_and_texts(call, engine):
    says(engine, {"query": "q", "results": [HIT, HIT | {"title": "U", "url": "http://example.org/a?b=c"}]})
    assert call("web.search", query="caf\xe9 & more=1", language="de-CH", page=2) == {
        "query": "caf\xe9 & more=1",
        "results": [
            {"title": "T", "url": "https://example.com/", "text": "C"},
            {"title": "U", "url": "http://example.org/a?b=c", "text": "C"},
        ],
    }
    asked = parse_qs(urlsplit(engine.seen[0].target).query)
    assert asked == {"q": ["caf\xe9 & more=1"], "format": ["json"], "language": ["de-CH"], "pageno": ["2"]}


def test_results_are_bounded_and_only_of_the_web(call, engine):
    odd = [HIT | {"url": url} for url in ("javascript:alert(1)", "file:///etc/passwd", "", None, 5)]
    long = HIT | {"title": "t" * 9_999, "content": "c" * 99_999, "url": "https://e.com/" + "u" * 9_999}
    says(engine, {"results": [*odd, 5, None, {}, long, *[HIT] * 60]})
    found = call("web.search", query="q", max_results=3)["results"]
    assert len(found) == 3
    assert {name: len(text) for name, text in found[0].items()} == {"title": 500, "url": 4_000, "text": 2_000}


def test_without_a_setting_it_says_which(call, engine, settings):
    settings.SEARCH_URL = ""
    with pytest.raises(NotConfigured, match="AGENTSYS_SEARCH_URL") as caught:
        call("web.search", query="q")
    assert (caught.value.code, caught.value.retryable, engine.seen) == ("not_configured", False, [])


def test_a_server_inside_is_called_only_if_it_is_let_through(call, engine, settings):
    settings.HTTP_ALLOW = ()
    with pytest.raises(AddressDenied, match="AGENTSYS_HTTP_ALLOW"):
        call("web.search", query="q")
    assert engine.seen == []


def test_it_is_not_led_elsewhere(call, engine):
    engine.pages["/search"] = redirect("http://169.254.169.254/latest/meta-data")
    with pytest.raises(AddressDenied):
        call("web.search", query="q")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"results": 5}', b"[" * 100_000, b'"x"', b"\xff"])
def test_an_answer_that_is_none_is_refused_or_empty(call, engine, body):
    engine.pages["/search"] = answer(body, content_type="application/json")
    try:
        assert call("web.search", query="q")["results"] == []
    except ToolFailed as error:
        assert "SearXNG" in error.message  # noqa: PT017


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, ToolFailed), (404, ToolFailed), (429, ToolRateLimited), (500, ToolUnavailable), (503, ToolUnavailable)],
)
def test_a_refusal_is_told_apart_from_what_may_be_better_later(call, engine, status, error):
    says(engine, {}, status=status)
    with pytest.raises(error) as caught:
        call("web.search", query="q")
    assert type(caught.value) is error
    assert ("formats" in caught.value.message) is (status == 403)


def test_an_answer_too_large_is_refused(call, engine):
    engine.pages["/search"] = answer(b" " * 6_000_000, content_type="application/json")
    with pytest.raises(ToolOutputTooLarge):
        call("web.search", query="q")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"query": ""},
        {"query": "x" * 501},
        {"query": 5},
        {"query": "q", "max_results": 51},
        {"query": "q", "language": "en&x=1"},
        {"query": "q", "page": 0},
    ],
)
def test_arguments_are_checked(call, engine, wrong):
    with pytest.raises(ToolArgumentsInvalid):
        call("web.search", **wrong)
    assert engine.seen == []
