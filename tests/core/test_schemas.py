"""JSON Schemas of strangers: what fits, what does not, and that none of them takes long."""

import time

import jsonschema
import pytest

from agentsys.core import schemas
from agentsys.core.errors import OutputInvalid

FITS = [
    ({"type": "object", "required": ["n"]}, {"n": 1}),
    ({"pattern": "b+"}, "abba"),
    ({"pattern": "^x"}, 5),
    ({"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False}, {"n_1": 1}),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, {"a": 1, "b": "x"}),
    ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}, None]),
    ({"uniqueItems": False}, [1, 1]),
    ({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [{"type": "null"}, {"items": {"$ref": "#/$defs/t"}}]}}}, [[None]]),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "const": {"a": 1.0}}, {"a": 1}),
    ({"unevaluatedProperties": False, "properties": {"a": {}}}, {"a": 1}),
    ({}, None),
]
DOES_NOT = [
    ({"type": "object", "required": ["n"]}, {}, "result"),
    ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1, "x"]}, "a.1"),
    ({"pattern": "^b+$"}, "abba", "result"),
    ({"patternProperties": {"^n_": {"type": "integer"}}}, {"n_1": "x"}, "n_1"),
    ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, {"n_1": 1, "m": 1}, "result"),
    ({"additionalProperties": {"type": "string"}}, {"b": 1}, "b"),
    ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], "result"),
    ({"unevaluatedProperties": False}, {"a": 1}, "result"),
    ({"not": {}}, 1, "result"),
]


@pytest.mark.parametrize(("schema", "value"), FITS)
def test_what_fits_is_let_through_as_the_library_would(schema, value):
    assert schemas.faults(schema) == []
    assert jsonschema.Draft202012Validator(schema).is_valid(value)

    schemas.check(value, schema)


@pytest.mark.parametrize(("schema", "value", "where"), DOES_NOT)
def test_what_does_not_fit_is_refused_as_the_library_would_and_says_where(schema, value, where):
    assert schemas.faults(schema) == []
    assert not jsonschema.Draft202012Validator(schema).is_valid(value)

    with pytest.raises(OutputInvalid) as caught:
        schemas.check(value, schema)

    assert caught.value.data["path"] == where


SLOW = {
    "a pattern that backtracks": ({"pattern": "^(a+)+$"}, "a" * 5_000 + "b"),
    "the same for a name": (
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 5_000 + "b": 1},
    ),
    "items that all differ": ({"uniqueItems": True}, [{"n": n} for n in range(20_000)] + [{"n": 0}]),
    "references that double": (
        {"$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}, "$ref": "#/$defs/0"}, 1,
    ),
    "a reference to itself": ({"$ref": "#"}, 1),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), SLOW.values(), ids=SLOW)
def test_no_schema_holds_a_worker_up(schema, value):
    begun = time.process_time()

    with pytest.raises(OutputInvalid):
        schemas.check(value, schema, work=50_000)

    assert time.process_time() - begun < 5  # without the bounds: hours


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "(?=a)b"},
        {"properties": {"a": {"items": [], "pattern": "("}}},
        {"items": {"pattern": r"(a)\1"}},
        {"patternProperties": {"[": {}}},
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
        {"type": "nothing"},
        {"$ref": "https://example.org/schema.json"},
        [],
        "string",
        1,
    ],
    ids=str,
)
def test_a_schema_that_could_not_be_used_is_refused_before_it_is_stored(schema):
    faults = schemas.faults(schema)

    assert faults
    for fault in faults:
        assert set(fault) == {"path", "code", "message"}
        assert fault["path"].startswith("output_schema")
