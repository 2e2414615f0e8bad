"""What a jsonb column takes: every output ends up here before its commit."""

import dataclasses
import enum
import json
import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentsys.core.errors import ToolOutputTooLarge
from agentsys.core.sanitize import clean


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Model(BaseModel):
    name: str
    when: date


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Text(str):
    pass


@pytest.mark.parametrize(
    "plain", [None, True, 0, -1.5, "", "text", "grüße 🎉", [], {}, [1, [2, {"a": None}]], {"a": {"b": [True]}}]
)
def test_plain_json_stays_as_it_is(plain):
    assert clean(plain) == plain


def test_the_result_is_a_copy():
    inner = [1]
    value = {"a": inner}
    cleaned = clean(value)
    inner.append(2)
    assert cleaned == {"a": [1]}


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\0b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("x\udfff\ud800y", "x\ufffd\ufffdy"),
        ("\ud83d\ude00", "😀"),
        ({"a\0": 1, "\ud800": 2}, {"a\ufffd": 1, "\ufffd": 2}),
        (math.nan, None),
        ([math.inf, -math.inf], [None, None]),
        ({7: 1, None: 2, True: 3, 2.5: 4, Colour.RED: 5}, {"7": 1, "null": 2, "true": 3, "2.5": 4, "red": 5}),
        ((1, 2), [1, 2]),
        (b"text", "text"),
        (b"\xff\xfe", "//4="),
        (bytearray(b"x"), "x"),
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05+00:00"),
        (date(2030, 1, 2), "2030-01-02"),
        (timedelta(minutes=2), 120.0),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Decimal("1.5"), 1.5),
        (Decimal("2"), 2),
        (Decimal("NaN"), None),
        (Decimal("0.10000000000000000000001"), "0.10000000000000000000001"),
        (Decimal("1e999999"), "1E+999999"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Model(name="n", when=date(2030, 1, 1)), {"name": "n", "when": "2030-01-01"}),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (OrderedDict(a=1), {"a": 1}),
        (Text("x\0"), "x\ufffd"),
        (1 + 2j, "(1+2j)"),
        (object(), "<object>"),
        (10**1_000, "1" + "0" * 1_000),
        (10**999, 10**999),
    ],
)
def test_what_the_database_would_refuse_is_replaced(dirty, expected):
    cleaned = clean(dirty)
    assert cleaned == expected
    assert type(cleaned) in (dict, list, str, int, float, bool, type(None))


def test_an_integer_that_python_does_not_print_becomes_text():
    assert clean(16**5_000) == "0x1" + "0" * 5_000


def test_a_set_becomes_a_list():
    assert sorted(clean({3, 1, 2})) == [1, 2, 3]


def test_64_levels_pass_and_65_do_not():
    def nested(levels):
        value: list = []
        for _ in range(levels - 1):
            value = [value]
        return value

    assert clean(nested(64)) == nested(64)
    with pytest.raises(ToolOutputTooLarge):
        clean(nested(65))
    with pytest.raises(ToolOutputTooLarge):
        clean(nested(100_000))


def test_a_container_that_holds_itself_is_too_deep():
    value: dict = {}
    value["self"] = value
    with pytest.raises(ToolOutputTooLarge):
        clean(value)


@pytest.mark.parametrize(
    "large",
    ["x" * 1_000_001, "é" * 500_001, ["x" * 100_000] * 11, list(range(1_000_000)), {str(n): n for n in range(100_000)}],
    ids=["text", "utf-8", "list", "numbers", "object"],
)
def test_more_than_a_megabyte_is_refused(large):
    with pytest.raises(ToolOutputTooLarge):
        clean(large)


def test_a_small_value_that_unfolds_to_gigabytes_is_refused_quickly():
    value: list = ["x"]
    for _ in range(60):
        value = [value] * 4
    with pytest.raises(ToolOutputTooLarge):
        clean(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20) | st.binary(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
        max_leaves=20,
    )
)
def test_whatever_comes_out_is_json_that_postgresql_takes(value):
    text = json.dumps(clean(value), allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")  # raises for lone surrogates
    assert "\\u0000" not in text.replace("\\\\", "")
    assert clean(json.loads(text)) == json.loads(text)
