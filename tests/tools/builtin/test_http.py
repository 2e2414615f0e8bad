"""Calls to the outside as tools; the guard itself is tested with the client."""

import json
import time

import pytest

from agentsys.core.errors import (
    AddressDenied,
    OutcomeUnknown,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolUnavailable,
)
from agentsys.tools import registry, runner
from agentsys.tools.testing import context
from tests.support.web import Web, answer, redirect, silent


@pytest.fixture
def web(settings):
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        yield web


def test_a_page_comes_as_text(call, web):
    web.pages["/"] = answer("grüße".encode("latin-1"), content_type="text/html; charset=iso-8859-1")
    result = call("http.get", url=web.url())
    assert result == {
        "url": web.url(),
        "status": 200,
        "headers": {"content-type": "text/html; charset=iso-8859-1", "content-length": "5"},
        "content_type": "text/html",
        "text": "grüße",
    }


@pytest.mark.parametrize("content_type", ["application/json", "application/problem+json; charset=utf-8", "text/json"])
def test_json_comes_parsed_and_not_as_text(call, web, content_type):
    web.pages["/"] = answer(b'\xef\xbb\xbf{"a": [1, null]}', content_type=content_type)
    result = call("http.get", url=web.url())
    assert result["json"] == {"a": [1, None]}
    assert "text" not in result


def test_an_answer_without_content_is_json_null_or_an_empty_text(call, web):
    web.pages |= {"/json": answer(b"", content_type="application/json"), "/text": answer(b"")}
    assert call("http.get", url=web.url("/json"))["json"] is None
    assert call("http.get", url=web.url("/text"))["text"] == ""


def test_what_is_no_text_comes_as_base64(call, web):
    web.pages["/"] = answer(b"\x89PNG\0", content_type="image/png")
    result = call("http.get", url=web.url())
    assert (result["base64"], result["content_type"]) == ("iVBORwA=", "image/png")


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff\xfe\xff", b"1" * 5_000, b"nope"])
def test_what_says_it_is_json_and_is_not_is_a_failure(call, web, body):
    web.pages["/"] = answer(body, content_type="application/json")
    with pytest.raises(ToolFailed, match="says it is JSON"):
        call("http.get", url=web.url())


def test_headers_and_query_are_sent(call, web):
    web.pages["/"] = answer()
    call("http.get", url=web.url("/?a=1"), headers={"X-Mine": "1"}, query={"b": "x y", "c": True})
    assert web.seen[0].headers["x-mine"] == "1"
    assert web.seen[0].target in ("/?a=1&b=x+y&c=true", "/?a=1&b=x%20y&c=true")


def test_data_is_posted_with_the_steps_key(call, web):
    web.pages["/"] = answer(b'{"id": 1}', status=201, content_type="application/json")
    result = call(
        "http.post", url=web.url(), body={"a": "ü"}, headers={"Authorization": "Bearer t", "idempotency-key": "mine"}
    )

    assert (result["status"], result["json"]) == (201, {"id": 1})
    seen = web.seen[0]
    assert (seen.method, json.loads(seen.body)) == ("POST", {"a": "ü"})
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["idempotency-key"] == "key-1"
    assert seen.headers["authorization"] == "Bearer t"


def test_a_text_is_posted_as_text_and_a_type_of_ones_own_is_kept(call, web):
    web.pages["/"] = answer()
    call("http.post", url=web.url(), body="grüße")
    call("http.post", url=web.url(), body="<a/>", headers={"content-type": "application/xml"})
    assert web.seen[0].headers["content-type"] == "text/plain; charset=utf-8"
    assert web.seen[0].body == "grüße".encode()
    assert web.seen[1].headers["content-type"] == "application/xml"


def test_a_post_holds_its_lease_before_anything_is_sent(web):
    web.pages["/"] = answer()
    seen_at_gate = []
    ctx = context(ensure_lease=lambda: seen_at_gate.append(len(web.seen)))
    runner.run(registry.get("http.post"), {"url": web.url(), "body": 1}, ctx)
    assert (seen_at_gate, len(web.seen)) == ([0], 1)


def test_a_post_without_an_answer_is_unknown_and_a_get_runs_out_of_time(web):
    web.pages["/"] = silent
    for tool, error in (("http.post", OutcomeUnknown), ("http.get", StepTimeout)):
        with pytest.raises(error):
            runner.run(registry.get(tool), {"url": web.url()}, context(deadline_at=time.monotonic() + 0.2))


def test_statuses_fail_the_step_unless_they_are_asked_for(call, web):
    web.pages |= {"/404": answer(b"gone", status=404), "/500": answer(status=500)}
    with pytest.raises(ToolFailed, match="answered 404"):
        call("http.get", url=web.url("/404"))
    with pytest.raises(ToolUnavailable):
        call("http.get", url=web.url("/500"))
    assert call("http.get", url=web.url("/404"), allow_errors=True)["text"] == "gone"
    assert call("http.post", url=web.url("/500"), allow_errors=True)["status"] == 500


def test_an_address_inside_is_denied_directly_and_by_redirect(call, web):
    web.pages["/"] = redirect("http://169.254.169.254/latest/meta-data/")
    for url in ("http://127.0.0.1:1/", "http://[::1]/", "file:///etc/passwd", web.url()):
        for tool in ("http.get", "http.post"):
            with pytest.raises((AddressDenied, ToolFailed)):
                call(tool, url=url)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": ""},
        {"url": 5},
        {"url": "http://" + "a" * 4_000},
        {"url": "http://e.com", "headers": {"a": 1}},
        {"url": "http://e.com", "headers": {str(n): "x" for n in range(51)}},
        {"url": "http://e.com", "query": {"a": [1]}},
        {"url": "http://e.com", "method": "DELETE"},
    ],
)
def test_arguments_are_checked(call, arguments):
    for tool in ("http.get", "http.post"):
        with pytest.raises(ToolArgumentsInvalid):
            call(tool, **arguments)


def test_surrogates_and_nul_in_data_do_no_harm(call, web):
    web.pages["/"] = answer(b"a\0b")
    call("http.post", url=web.url(), body={"a": "\0"})
    assert json.loads(web.seen[0].body) == {"a": "\0"}
    assert call("http.get", url=web.url())["text"] == "a\ufffdb"
