"""Questions to JSON."""

import contextlib
import time

import pytest

from agentsys.core.errors import AgentSysError, ToolArgumentsInvalid, ToolFailed

API = {
    "info": {"title": "API"},
    "paths": {"/a": {"get": {}}, "/b": {"get": {}, "post": {}}},
    "tags": [{"n": 1}, {"n": 2}],
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("info.title", "API"),
        ("keys(paths)", ["/a", "/b"]),
        ("length(paths)", 2),
        ("tags[*].n", [1, 2]),
        ("sum(tags[*].n)", 3),
        ("tags[?n > `1`] | [0]", {"n": 2}),
        ("nothing.at.all", None),
        ("@", API),
    ],
)
def test_json_is_queried(call, expression, expected):
    assert call("json.query", data=API, expression=expression) == {"value": expected}


def test_a_text_is_read_as_json(call):
    assert call("json.query", data='\ufeff{"a": [1, 2]}', expression="a[1]") == {"value": 2}
    for text in ("not json", "{", "[" * 100_000, ""):
        with pytest.raises(ToolFailed, match="not JSON"):
            call("json.query", data=text, expression="a")


@pytest.mark.parametrize("expression", ["a[", "a.", "foo(@)", "length(@, @)", "length(`5`)", "sort(tags)", "'a", "\0"])
def test_what_is_no_question_says_so(call, expression):
    with pytest.raises(ToolFailed):
        call("json.query", data=API, expression=expression)


@pytest.mark.parametrize(
    "expression",
    [
        "[@,@,@,@]|" * 40 + "@",
        "[[[[[[[[[[" * 60,
        "to_string(@)|" * 40 + "@",
        "map(&map(&map(&map(&@, $), $), $), $)".replace("$", "`[1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9]`"),
        "@." * 900 + "@",
    ],
    ids=["doubling", "nesting", "quoting", "loops", "chain"],
)
def test_a_question_without_an_end_is_ended(call, expression):
    began = time.monotonic()
    with contextlib.suppress(AgentSysError):  # refused, or cheap enough: both are fine
        call("json.query", data=[1, 2, 3], expression=expression[:2_000])
    assert time.monotonic() - began < 8


def test_expressions_have_a_length(call):
    for expression in ("", "a" * 2_001, 5, None):
        with pytest.raises(ToolArgumentsInvalid):
            call("json.query", data={}, expression=expression)
