"""Texts counted and cut."""

import contextlib
import time

import pytest

from agentsys.core.errors import ToolArgumentsInvalid, ToolFailed, ToolOutputTooLarge

README = """Intro line.

# Title #
First paragraph. It has two sentences.

## Set-up ##
```sh
# not a heading
make demo
```

Underlined
==========
- one
- two

Last
----
end
"""

HOSTILE = [
    "a", "@", ".", ". ", "1", "\n", "#", "# \n", "a@", "http://", "[", "a\n=\n", '".', "1,", "1,111", "\0", "。", "é",
    "a. A", "(x", "`", "- ", "a.b", "Jan ", "x'", "```\n", "\r", "\u2028", "\U0001f600", "<div>", "!\"'", "1e", "- \n",
]  # fmt: skip


# --- text.count -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, 0, 0, 0)),
        ("one", (1, 1, 1, 1, 3)),
        ("One one, ONE!", (3, 1, 1, 1, 13)),
        ("a b\nc\n", (3, 3, 2, 1, 6)),
        ("a\r\n\r\nb", (2, 2, 3, 2, 6)),
        ("a\n \t\nb\n\n\n", (2, 2, 5, 2, 9)),
        ("日本 🎉", (2, 2, 1, 1, 4)),
        ("- * -", (3, 0, 1, 1, 5)),
    ],
)
def test_words_lines_paragraphs_and_characters_are_counted(call, text, expected):
    counts = call("text.count", text=text)
    keys = ("words", "distinct_words", "lines", "paragraphs", "characters")
    assert tuple(counts[key] for key in keys) == expected
    assert counts["term_count"] is None


@pytest.mark.parametrize(
    ("text", "term", "expected"),
    [
        ("error Error ERRORS terror", "error", 2),
        ("a b a b a", "a b", 2),
        ("c++ and C++", "c++", 2),
        ("Straße STRASSE", "straße", 2),
        ("none", "x", 0),
        ("aaaa", "aa", 0),
        ("aa aa", "aa", 2),
        ("...", ".", 3),
        ("x", "  ", None),
    ],
)
def test_a_term_is_counted_as_whole_words_whatever_its_case(call, text, term, expected):
    assert call("text.count", text=text, term=term)["term_count"] == expected


@pytest.mark.parametrize("bad", [5, None, ["a"], {"a": 1}, "x" * 1_000_001])
def test_what_is_no_text_of_a_million_characters_is_refused(call, bad):
    for tool in ("text.count", "text.split", "text.summarize", "text.top_terms"):
        with pytest.raises(ToolArgumentsInvalid):
            call(tool, text=bad)


# --- text.split -----------------------------------------------------------------------
def test_a_readme_is_split_into_its_sections(call):
    parts = call("text.split", text=README, by="headings")["parts"]
    assert [(part["level"], part["title"]) for part in parts] == [
        (0, ""),
        (1, "Title"),
        (2, "Set-up"),
        (1, "Underlined"),
        (2, "Last"),
    ]
    assert parts[0]["text"] == "Intro line."
    assert "# not a heading" in parts[2]["text"]
    assert parts[4]["text"] == "end"


@pytest.mark.parametrize("title", ["#hashtag", "####### seven", "    # indented code", "text # inside"])
def test_what_only_looks_like_a_heading_is_text(call, title):
    assert call("text.split", text=f"{title}\nmore", by="headings")["parts"] == [
        {"title": "", "level": 0, "text": f"{title}\nmore".strip()}
    ]


def test_a_heading_may_be_empty_or_end_in_a_sharp(call):
    parts = call("text.split", text="#\na\n# C#\nb", by="headings")["parts"]
    assert [(part["title"], part["text"]) for part in parts] == [("", "a"), ("C#", "b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mr. J. Jones, e.g. Monday. Fine.", ["Dr. Smith met Mr. J. Jones, e.g. Monday.", "Fine."]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("Version 1.5 is out. 2.0 comes.", ["Version 1.5 is out.", "2.0 comes."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ("One line\ngoes on. Next.", ["One line goes on.", "Next."]),
        ("Über uns. Ärger.", ["Über uns.", "Ärger."]),
        ("今日は。明日も。", ["今日は。", "明日も。"]),
        ("# Head\nText here. More", ["# Head", "Text here.", "More"]),
        ("- one\n- two. Three", ["- one", "- two.", "Three"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(call, text, expected):
    assert call("text.split", text=text, by="sentences") == {"parts": expected, "count": len(expected)}


@pytest.mark.parametrize(
    ("by", "expected"),
    [("lines", ["a b", "c", "d"]), ("paragraphs", ["a b\nc", "d"]), ("words", ["a", "b", "c", "d"])],
)
def test_lines_paragraphs_and_words(call, by, expected):
    assert call("text.split", text="a b\r\nc\n\n\nd\n", by=by)["parts"] == expected


def test_a_separator_needs_no_other_word_and_goes_with_no_other(call):
    assert call("text.split", text="a|b\n\nc", separator="|")["parts"] == ["a", "b\n\nc"]
    assert call("text.split", text="a b", separator="")["parts"] == ["a b"]
    for by in ("lines", "sentences", "words", "headings"):
        with pytest.raises(ToolFailed, match="not at both"):
            call("text.split", text="a|b", by=by, separator="|")


def test_a_separator_of_ones_own(call):
    assert call("text.split", text="a, b,,c", by="separator", separator=",")["parts"] == ["a", "b", "c"]
    with pytest.raises(ToolFailed, match="needs the separator"):
        call("text.split", text="a", by="separator")
    with pytest.raises(ToolArgumentsInvalid):
        call("text.split", text="a", by="chapters")


# --- Hostile input --------------------------------------------------------------------
@pytest.mark.parametrize("unit", HOSTILE, ids=repr)
def test_a_long_text_of_anything_costs_seconds_at_most(call, unit):
    """A quadratic rule would take hours; what is asserted is only that it is none."""
    text = (unit * (200_000 // len(unit)))[:200_000]
    began = time.monotonic()
    calls = [("text.count", {"term": "a" * 200}), ("text.count", {"term": "." * 199 + "x"})]
    calls += [("text.summarize", {}), ("text.top_terms", {})]
    calls += [("text.split", {"by": by}) for by in ("lines", "sentences", "paragraphs", "words", "headings")]
    calls += [("text.extract", {"kind": kind}) for kind in ("emails", "urls", "numbers", "dates")]
    for tool, options in calls:
        with contextlib.suppress(ToolOutputTooLarge):  # each character a part: more than a step may give
            call(tool, text=text, **options)
    assert time.monotonic() - began < 20


def test_surrogates_and_nul_come_out_harmless(call):
    parts = call("text.split", text="a\0b\n\nc", by="paragraphs")["parts"]
    assert parts == ["a\ufffdb", "c"]
    with pytest.raises(ToolArgumentsInvalid, match="Unicode"):
        call("text.count", text="\ud800")
