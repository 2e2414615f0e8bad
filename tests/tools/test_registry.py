"""The catalogue: what a declaration makes of a function, and which declarations are refused."""

import json
import sys
from datetime import datetime
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolUnknown
from agentsys.tools import ToolContext, registry, tool
from agentsys.tools.registry import ToolSpec

BUILTIN = [
    "files.list", "files.read", "files.write", "html.links", "html.text", "http.get", "http.post", "json.query",
    "math.evaluate", "python.run", "text.count", "text.extract", "text.split", "text.summarize", "text.top_terms",
    "time.now", "wait",
]  # fmt: skip


class Address(BaseModel):
    street: str
    number: int


class Found(TypedDict):
    title: str
    where: list[Address]


@pytest.fixture
def catalogue(monkeypatch):
    """A catalogue of this test's own."""
    registry.load()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))


@pytest.fixture
def declared(catalogue):
    """Declare a function and return its entry."""

    def declare(function, **options) -> ToolSpec:
        tool(**{"effect": "pure", **options})(function)
        return registry.get(options.get("name") or f"{function.__module__}.{function.__name__}")

    return declare


def sample(
    text: Annotated[str, Field(max_length=10)],
    ctx: ToolContext,
    json: list[Address] | None = None,
    schema: Literal["a", "b"] = "a",
    when: datetime | None = None,
    copy: int = 1,
) -> Found:
    """Find things."""
    return Found(title=text, where=json or [])


# --- The built-in tools ---------------------------------------------------------------
def test_the_promised_tools_are_there():
    assert set(BUILTIN) <= set(registry.all_tools())


@pytest.mark.parametrize("name", BUILTIN)
def test_a_tool_tells_a_model_all_it_needs(name):
    spec = registry.get(name)
    assert spec.description.split("\n")[0].endswith((".", "…"))
    assert len(spec.examples) >= 3
    assert spec.timeout_s <= 60
    jsonschema.Draft202012Validator.check_schema(spec.input_schema)
    assert spec.input_schema["additionalProperties"] is False
    assert isinstance(spec.output_schema, dict)
    assert "ctx" not in spec.input_schema["properties"]
    for argument in spec.input_schema["properties"].values():
        assert argument["description"]
    json.dumps(spec.input_schema)
    json.dumps(spec.output_schema)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_text_has_a_limit(name):
    def strings(schema: Any):
        if isinstance(schema, dict):
            if schema.get("type") == "string" and "enum" not in schema and "const" not in schema:
                yield schema
            for key, value in schema.items():
                if key != "additionalProperties":  # header values, bounded by the client
                    yield from strings(value)
        if isinstance(schema, list):
            for item in schema:
                yield from strings(item)

    assert all("maxLength" in schema for schema in strings(registry.get(name).input_schema["properties"]))


def test_only_a_post_is_unsafe():
    unsafe = [name for name in BUILTIN if registry.get(name).effect == "unsafe"]
    assert unsafe == ["http.post"]


# --- Declarations ---------------------------------------------------------------------
def test_types_make_the_schema_and_the_docstring_the_description(declared):
    spec = declared(sample, name="sample", examples=("find a thing",), timeout_s=3)

    assert (spec.description, spec.examples, spec.timeout_s) == ("Find things.", ("find a thing",), 3.0)
    assert spec.input_schema["required"] == ["text"]
    assert list(spec.input_schema["properties"]) == ["text", "json", "schema", "when", "copy"]
    assert spec.input_schema["properties"]["text"] == {"type": "string", "maxLength": 10}
    assert spec.input_schema["properties"]["schema"]["enum"] == ["a", "b"]
    assert spec.output_schema["required"] == ["title", "where"]


def test_a_name_is_module_and_function_unless_given(declared):
    assert declared(sample).name == f"{__name__}.sample"
    assert declared(sample, name="mine").name == "mine"


def test_the_lane_follows_from_the_kind_of_function(declared):
    async def waits(n: int) -> int:
        """Wait."""
        return n

    assert declared(waits, name="waits").lane == "network"
    assert declared(sample, name="computes").lane == "compute"
    assert declared(sample, name="reads", lane="network").lane == "network"


def test_a_declared_function_stays_an_ordinary_function(catalogue):
    @tool(effect="pure", name="twice")
    def twice(n: int) -> int:
        """Double."""
        return 2 * n

    assert twice(4) == 8


def test_a_result_of_any_type_has_no_schema(declared):
    def anything(n: int):
        """Anything."""

    assert declared(anything, name="anything").output_schema is None


def no_docstring(n: int) -> int:
    return n


def untyped(n) -> int:
    """Untyped."""
    return n


def spread(*names: str) -> int:
    """Spread."""
    return 0


def unschematic(n: type(sys)) -> int:  # type: ignore[valid-type]
    """Take a module."""
    return 0


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (sample, {"effect": "harmless"}, "effect must be one of"),
        (sample, {"effect": None}, "effect must be one of"),
        (sample, {"lane": "model"}, "lane must be"),
        (sample, {"timeout_s": 0}, "timeout_s"),
        (sample, {"timeout_s": 1e9}, "timeout_s"),
        (sample, {"effect": "verifiable"}, "verify="),
        (sample, {"verify": "check"}, "verify="),
        (sample, {"name": "a b"}, "name may have"),
        (sample, {"name": "x" * 101}, "name may have"),
        (no_docstring, {}, "docstring"),
        (untyped, {}, "parameter n needs a type"),
        (spread, {}, "names must be an ordinary parameter"),
        (unschematic, {}, "no JSON Schema"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_once(catalogue, function, options, message):
    before = registry.all_tools()
    with pytest.raises(TypeError, match=message):
        tool(**{"effect": "pure", **options})(function)
    assert registry.all_tools() == before


def test_a_tool_without_its_effect_is_refused(catalogue):
    with pytest.raises(TypeError, match="effect='pure'"):
        tool(sample)


def test_a_name_is_taken_once(declared):
    first = declared(sample, name="mine")
    with pytest.raises(ValueError, match="declared twice"):
        declared(sample, name="mine")
    assert registry.get("mine") is first


# --- Looking up -----------------------------------------------------------------------
def test_an_unknown_tool_names_the_nearest():
    with pytest.raises(ToolUnknown, match=r"Did you mean text\.count") as caught:
        registry.get("text.cuont")
    assert "text.count" in caught.value.data["nearest"]


@pytest.mark.parametrize("name", ["", "x" * 1_000_000, "\0", "\ud800"])
def test_a_hostile_name_is_just_unknown(name):
    with pytest.raises(ToolUnknown) as caught:
        registry.get(name)
    assert len(caught.value.message) < 1_500


# --- Modules of tools -----------------------------------------------------------------
@pytest.fixture
def module(tmp_path, monkeypatch, catalogue, settings):
    """Write a module of tools and load it as the settings say."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(name: str, source: str | None) -> None:
        if source is not None:
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(registry, "_loaded", False)
        settings.TOOL_MODULES = (name,)
        monkeypatch.delitem(sys.modules, name, raising=False)
        registry.load()

    return load


def test_a_users_module_adds_its_tools(module):
    source = (
        "from __future__ import annotations\n"
        "from agentsys.tools import tool, ToolContext\n"
        "@tool(effect='pure', lane='compute', timeout_s=5)\n"
        "def shout(text: str, ctx: ToolContext) -> str:\n"
        "    '''Shout.'''\n"
        "    return text.upper()\n"
    )
    module("my_tools", source)

    spec = registry.get("my_tools.shout")
    assert (spec.lane, list(spec.input_schema["properties"])) == ("compute", ["text"])


@pytest.mark.parametrize(
    "source",
    [
        "import no_such_thing",
        "1 / 0",
        "def broken(:",
        "raise SystemExit(3)",
        "from agentsys.tools import tool\n@tool(effect='pure')\ndef f(x): 'Doc.'",
        "from agentsys.tools import tool\n@tool(effect='pure')\ndef f(x: int): 'Doc.'\n1 / 0",
        "from agentsys.tools import tool\n@tool(effect='pure', name='http.get')\ndef f(x: int): 'Doc.'",
        None,
    ],
    ids=["import", "crash", "syntax", "exit", "untyped", "half", "taken", "missing"],
)
def test_a_broken_module_fails_the_start_with_its_name(module, source):
    before = set(registry._tools)
    for _ in range(2):  # the second start fails for the same reason, not for what the first one left
        with pytest.raises(ImproperlyConfigured, match=r"AGENTSYS_TOOL_MODULES.*'broken_tools'") as caught:
            module("broken_tools", source)
        assert "declared twice" not in str(caught.value) or "http.get" in str(caught.value)
    assert set(registry._tools) == before


VERIFIABLE = """
from agentsys.tools import tool
@tool(effect='verifiable', verify={verify!r}, name='checked.pay')
def pay() -> None:
    'Pay.'
@tool(effect='pure', name='checked.paid')
def paid() -> bool:
    'Tell.'
"""


def test_the_check_of_a_tool_may_be_declared_after_it(module):
    module("checked_tools", VERIFIABLE.format(verify="checked.paid"))

    assert registry.get("checked.pay").verify == "checked.paid"


CHECKED = """
from agentsys.tools import tool
@tool(effect='verifiable', verify='checked.paid', name='checked.pay')
def pay(amount: int, to: str = '') -> None:
    'Pay.'
@tool(effect={effect!r}, name='checked.paid')
def paid({parameters}) -> bool:
    'Tell.'
"""


@pytest.mark.parametrize("parameters", ["", "amount: int", "to: str = ''", "amount: int, to: str, note: str = ''"])
@pytest.mark.parametrize("effect", ["pure", "idempotent"])
def test_a_check_takes_any_of_the_arguments(module, parameters, effect):
    module("checked_tools", CHECKED.format(effect=effect, parameters=parameters))

    assert registry.get("checked.pay").verify == "checked.paid"


@pytest.mark.parametrize(
    ("effect", "parameters", "message"),
    [
        ("unsafe", "amount: int", "is unsafe: a check must be pure or idempotent"),
        ("pure", "amount: int, note: str", r"needs note, and checked\.pay has no such argument"),
    ],
)
def test_a_check_that_could_not_be_asked_fails_the_start(module, effect, parameters, message):
    with pytest.raises(ImproperlyConfigured, match=rf"checked\.pay is declared with .*, which {message}"):
        module("checked_tools", CHECKED.format(effect=effect, parameters=parameters))


@pytest.mark.parametrize("verify", ["checked.payed", "checked.pay"])
def test_a_check_that_is_no_other_tool_fails_the_start(module, verify):
    with pytest.raises(ImproperlyConfigured, match=rf"checked\.pay is declared with verify='{verify}'"):
        module("checked_tools", VERIFIABLE.format(verify=verify))


# --- Faults of arguments --------------------------------------------------------------
@pytest.fixture
def spec(declared):
    return declared(sample, name="sample")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"text": "a"}, []),
        ({"text": "a", "copy": 2, "schema": "b", "when": "2030-01-01T00:00:00Z", "json": None}, []),
        ({"text": "a", "json": [{"street": "s", "number": 1}]}, []),
        ({}, [("text", "missing")]),
        ({"text": 5}, [("text", "type")]),
        ({"text": None}, [("text", "type")]),
        ({"text": "a" * 11}, [("text", "value")]),
        ({"text": "a", "copy": "2"}, [("copy", "type")]),
        ({"text": "a", "copy": True}, [("copy", "type")]),
        ({"text": "a", "copy": 1.5}, [("copy", "type")]),
        ({"text": "a", "schema": "c"}, [("schema", "value")]),
        ({"text": "a", "when": "soon"}, [("when", "value")]),
        ({"text": "a", "ctx": {}}, [("ctx", "unknown")]),
        ({"text": "a", "txet": 1, "more": 2}, [("txet", "unknown"), ("more", "unknown")]),
        ({"text": "a", "json": {}}, [("json", "type")]),
        (
            {"json": [{"street": 1}, {"street": "s", "number": 1, "x": 1}], "copy": []},
            [("text", "missing"), ("json.0.street", "type"), ("json.0.number", "missing"), ("copy", "type")],
        ),
    ],
)
def test_all_faults_are_found_at_once(spec, arguments, expected):
    faults = registry.faults(spec, arguments)
    assert [(fault["path"], fault["code"]) for fault in faults] == expected
    assert all(fault["message"] for fault in faults)


def is_reference(value: Any) -> bool:
    return "${" in json.dumps(value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"text": "${a}", "copy": "${b.c}", "json": "${x}", "schema": "${y}"}, []),
        ({"text": "long text with ${a}"}, []),
        ({"text": "a", "json": [{"street": "${s}", "number": "${n}"}]}, []),
        ({"text": "a", "json": [{"street": "${s}", "number": "1"}]}, [("json.0.number", "type")]),
        ({"text": ["${a}"]}, [("text", "type")]),
        ({"copy": "${b}", "what": "${c}"}, [("text", "missing"), ("what", "unknown")]),
    ],
)
def test_what_is_unknown_yet_is_accepted_and_all_else_is_not(spec, arguments, expected):
    faults = registry.faults(spec, arguments, skip=is_reference)
    assert [(fault["path"], fault["code"]) for fault in faults] == expected


def _deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [None, [], "text", 5, {"text": float("nan")}, {"text": "\ud800"}, {"text": object()}, {1: 2}, {"text": 10**5_000}],
)
def test_arguments_that_are_not_even_json_are_a_fault_and_no_crash(spec, arguments):
    faults = registry.faults(spec, arguments)
    assert faults
    assert all(set(fault) == {"path", "code", "message"} for fault in faults)


def test_arguments_of_bottomless_depth_are_a_fault(spec):
    assert registry.faults(spec, {"text": _deep()})
