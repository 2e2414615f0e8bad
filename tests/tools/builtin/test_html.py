"""Pages as people read them."""

import contextlib
import time

import pytest

from agentsys.core.errors import ToolArgumentsInvalid, ToolOutputTooLarge

PAGE = """<!doctype html><html><head><title> My
 page &amp; more</title><style>p { color: red }</style></head>
<body><h1>Head<b>ing</b></h1><p>One<br>two &lt;three&gt; 4 < 5
goes on</p><script>var x = "<p>no</p>"</script><!-- <p>no</p> -->
<ul><li>a<li>b</ul><table><tr><td>1<td>2<tr><td>3</table>
<noscript>no</noscript><template><p>no</p></template><svg><text>no</text></svg>
<textarea><b>typed</b></textarea><p hidden>end
"""


def test_a_page_becomes_the_lines_that_people_read(call):
    assert call("html.text", html=PAGE) == {
        "title": "My page & more",
        "text": "Heading\nOne\ntwo <three> 4 < 5 goes on\na\nb\n1 2\n3\n<b>typed</b>\nend",
    }


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a&nbsp;b&#x41;&#66;&euro;&unknown;", "a bAB€&unknown;"),
        ("a<b", "a"),
        ("a < b", "a < b"),
        ("a<", "a<"),
        ("</p>a</>b</ x>c</p>d", "abc\nd"),
        ("a<!-->b-->c", "ab-->c"),
        ("a<!-- b", "a"),
        ("<p title='>'>a</p>", "a"),
        ('<p title="a\'>b">c', "c"),
        ("<P>A</P><BR/>B", "A\nB"),
        ("<script>a</scripty></script >b", "b"),
        ("<svg><svg>a</svg>b</svg>c", "c"),
        ("<?php x ?>a<![CDATA[b]]>c", "ac"),
        ("a\0b", "a\ufffdb"),
    ],
)
def test_broken_markup_is_read_as_a_browser_would(call, html, expected):
    assert call("html.text", html=html)["text"] == expected


def test_links_are_absolute_once_each_and_in_order(call):
    html = """<base href="/docs/"><a href="a?x=1&amp;y=2"> First
    <b>link</b></a> <a href=a?x=1&y=2>again</a><a href='//other.example/'></a><a href=#top>top</a>
    <a href="mailto:a@b.c">m</a><a href="javascript:alert(1)">j</a><a href="http://[bad">b</a><a name=x>n</a>
    <area href="/map" alt=x><a HREF="/up">Up<a href="/open">Open"""
    result = call("html.links", html=html, base_url="https://example.com/index.html")
    assert result == {
        "links": [
            {"url": "https://example.com/docs/a?x=1&y=2", "text": "First link"},
            {"url": "https://other.example/", "text": ""},
            {"url": "https://example.com/map", "text": ""},
            {"url": "https://example.com/up", "text": "Up"},
            {"url": "https://example.com/open", "text": "Open"},
        ],
        "count": 5,
    }


def test_without_a_base_links_stay_as_they_are_written(call):
    assert [link["url"] for link in call("html.links", html="<a href='/a'>x</a><a href=b>y</a>")["links"]] == [
        "/a",
        "b",
    ]


def test_links_have_a_limit(call):
    html = "".join(f"<a href=/{n}>{n}</a>" for n in range(2_000))
    assert call("html.links", html=html)["count"] == 1_000
    assert call("html.links", html=html, limit=5)["count"] == 5


@pytest.mark.parametrize("bad", [5, None, b"x".decode() * 2_000_001, ["<p>"]])
def test_what_is_no_page_is_refused(call, bad):
    for tool in ("html.text", "html.links"):
        with pytest.raises(ToolArgumentsInvalid):
            call(tool, html=bad)


HOSTILE = [
    "<div>", "<p>", "<b>", "<table>", "<a href=x>", "&", "<", "<!--", "<br>", "<script>", "<a x=\"", "<a x='\"",
    "&#", "&#1", "&amp", "<a ==", "</", "<!", "<a", "<a href=", "<a ", "<title>", "<svg>", "<a/", "\0", "<\0>",
    "</div>", "<x-y z>", "<![CDATA[",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE, ids=repr)
def test_a_large_page_of_anything_costs_seconds_at_most(call, unit):
    """A tree builder takes minutes over the nested ones; what is asserted is only that nothing is quadratic."""
    html = unit * (500_000 // len(unit))
    began = time.monotonic()
    for tool in ("html.text", "html.links"):
        with contextlib.suppress(ToolOutputTooLarge):
            call(tool, html=html)
    assert time.monotonic() - began < 10


def test_formatting_that_would_multiply_in_a_tree_does_not(call):
    html = "".join(f"<b id={n}>" for n in range(2_000)) + "<p>x" * 100_000
    assert call("html.text", html=html)["text"].count("x") == 100_000


def test_a_reference_of_many_digits_is_no_number(call):
    assert call("html.text", html="&#" + "9" * 10_000 + ";x")["text"] == "\ufffdx"


def test_much_text_of_little_markup_is_refused_by_its_size(call):
    with pytest.raises(ToolOutputTooLarge):
        call("html.text", html="x" * 1_500_000)
