"""Found in a text."""

import time

import pytest

from agentsys.core.errors import ToolArgumentsInvalid, ToolFailed
from agentsys.tools.builtin import search


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail a.b+c@example.co.uk or <x@y.org>.", ["a.b+c@example.co.uk", "x@y.org"]),
        ("mailto:me@example.com, (you@example.com)", ["me@example.com", "you@example.com"]),
        ("@handle a@b a@.com @ a@@b.com .a@b.com", ["a@b.com"]),
        ("a@example.com.", ["a@example.com"]),
        ("", []),
    ],
)
def test_emails(call, text, expected):
    assert call("text.extract", text=text, kind="emails")["matches"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See https://a.b/c_(d)?x=1&y=2#z, or http://e.f.", ["https://a.b/c_(d)?x=1&y=2#z", "http://e.f"]),
        ("(http://e.f/g) [x](http://h.i/j) <http://k.l>", ["http://e.f/g", "http://h.i/j", "http://k.l"]),
        ("HTTPS://UP.example/X", ["HTTPS://UP.example/X"]),
        ("ftp://a.b file:///c www.d.e http://", []),
    ],
)
def test_urls(call, text, expected):
    assert call("text.extract", text=text, kind="urls")["matches"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234.5 and -3 or +4", [1234.5, -3, 4]),
        ("v1.2.3 abc5 5abc", []),
        ("1e3 2.50 .5 7.", [1000.0, 2.5, 7]),
        ("costs €12 or 30%", [12, 30]),
        ("9" * 400, []),
        ("1,2,3", [1, 2, 3]),
    ],
)
def test_numbers_come_as_numbers(call, text, expected):
    assert call("text.extract", text=text, kind="numbers")["matches"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on 2024-05-06 at 2024-05-06T07:08:09Z", ["2024-05-06", "2024-05-06T07:08:09Z"]),
        ("5 March 2024, March 7th, 2023, 1st Feb. 2020", ["5 March 2024", "March 7th, 2023", "1st Feb. 2020"]),
        ("01/02/2024 and 3.4.2025", ["01/02/2024", "3.4.2025"]),
        ("2024-13-01 2024-00-10 12024-01-01 1/2.2024", []),
    ],
)
def test_dates(call, text, expected):
    assert call("text.extract", text=text, kind="dates")["matches"] == expected


def test_a_regular_expression_yields_its_matches_or_its_group(call):
    text = "v1.2 v3.4 V5 über"
    assert call("text.extract", text=text, kind="regex", pattern=r"v[0-9.]+")["matches"] == ["v1.2", "v3.4"]
    assert call("text.extract", text=text, kind="regex", pattern=r"(?i)v([0-9])")["matches"] == ["1", "3", "5"]
    assert call("text.extract", text=text, kind="regex", pattern="ü.*")["matches"] == ["über"]
    assert call("text.extract", text=text, kind="regex", pattern="(x)|v")["matches"] == []


def test_each_match_once_and_no_more_than_asked_for(call):
    text = "1 2 1 3 2"
    for kind, pattern, matches in (("numbers", "", [1, 2, 3]), ("regex", r"\d", ["1", "2", "3"])):
        options = {"kind": kind, "pattern": pattern}
        assert call("text.extract", text=text, unique=True, **options)["matches"] == matches
        assert call("text.extract", text=text, limit=2, **options) == {"matches": matches[:2], "count": 2}


@pytest.mark.parametrize(
    "pattern",
    [r"(a|aa)+$", r"(.*)*\1x", r"((a{1,99}){1,99}){1,99}b"],
)
def test_a_pattern_that_never_ends_is_ended(call, pattern, monkeypatch):
    monkeypatch.setattr(search, "REGEX_CPU_S", 1)
    began = time.monotonic()
    with pytest.raises(ToolFailed, match=r"regular expression (takes too long|does not work)"):
        call("text.extract", text="a" * 5_000 + "!", kind="regex", pattern=pattern)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<a", "a{1,99999999999}", "(?z)", "\\", "(" * 200])
def test_a_pattern_that_is_none_says_why(call, pattern):
    with pytest.raises(ToolFailed, match="regular expression does not work"):
        call("text.extract", text="a", kind="regex", pattern=pattern)


def test_kind_and_pattern_are_checked(call):
    with pytest.raises(ToolFailed, match="needs a pattern"):
        call("text.extract", text="a", kind="regex")
    with pytest.raises(ToolArgumentsInvalid):
        call("text.extract", text="a", kind="phones")
    with pytest.raises(ToolArgumentsInvalid):
        call("text.extract", text="a", kind="regex", pattern="a" * 501)


def test_a_pattern_that_nobody_would_look_for_is_refused(call):
    with pytest.raises(ToolFailed, match="only for kind=regex"):
        call("text.extract", text="a1", kind="numbers", pattern="[a-z]")
