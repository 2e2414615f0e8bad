"""``${key.path}``: what a template means, what is refused, what it may cost."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentsys.agents.references import (
    MAX_DEPTH,
    escape,
    has_reference,
    inspect,
    join_path,
    names,
    render,
)
from agentsys.core.errors import AgentSysError, PayloadTooLarge, ReferenceFailed, ReferenceInvalid

VALUES = {
    "page": {
        "title": "Über uns",
        "size": 12,
        "links": [{"url": "/a", "ok": True}, {"url": "/b", "ok": False}],
        "}": "brace",
        "none": None,
    },
    "text": "plain",
    "rows": [1, 2.5, "x"],
    "input": {"name": "Ada"},
    "goal": "count",
}


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("${page}", VALUES["page"]),
        ("${page.size}", 12),
        ("${page.links[0].ok}", True),
        ("${page.links[-1].url}", "/b"),
        ("${page.links[*].url}", ["/a", "/b"]),
        ("${page.links[?ok].url | [0]}", "/a"),
        ("${page.links[?url == '/b'].ok}", [False]),
        ("${page.links[?url == `/b`].ok}", [False]),
        ("${page.{t: title, n: size}}", {"t": "Über uns", "n": 12}),
        ("${rows | length(@)}", 3),
        ("${rows.length(@)}", 3),
        ("${rows[1]}", 2.5),
        ("${ page.size }", 12),
        ("${input.name}", "Ada"),
        ("${goal}", "count"),
        ("${page.missing || 'none'}", "none"),
        ('${page."}"}', "brace"),
        ("${page.links[?url == '}'] | length(@)}", 0),
        ("${page.links[?url == '\\'}'] | length(@)}", 0),
    ],
)
def test_a_string_that_is_one_reference_keeps_the_type(template, result):
    assert render(template, VALUES) == result


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("Hello ${input.name}!", "Hello Ada!"),
        ("${text}${text}", "plainplain"),
        (" ${page.size}", " 12"),
        ("${page.size} of ${page.links[0]}", '12 of {"url":"/a","ok":true}'),
        ("${rows}.", '[1,2.5,"x"].'),
        ("${page.title} ${page.none} ${page.links[0].ok}", "Über uns null true"),
        ("{${text}}", "{plain}"),
    ],
)
def test_inside_text_strings_stay_and_other_values_become_compact_json(template, result):
    assert render(template, VALUES) == result


@pytest.mark.parametrize(
    "template", ["${nobody}", "${nobody.a[0].b}", "${page.x.y}", "${rows.x}", "${text[0]}", "${rows[9]}"]
)
def test_a_missing_step_or_path_is_null(template):
    assert render(template, VALUES) is None
    assert render(f"<{template}>", VALUES) == "<null>"


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("$${text}", "${text}"),
        ("$$${text}", "$${text}"),
        ("cost: $5 {x} $", "cost: $5 {x} $"),
        ("$${ ${text} }", "${ plain }"),
        ("$${", "${"),
        ("", ""),
    ],
)
def test_two_dollars_before_a_brace_are_a_literal(template, result):
    assert render(template, VALUES) == result


def test_values_are_filled_in_at_any_depth_and_never_in_keys():
    template = {"${text}": [{"deep": ["${page.size}", "a ${text}"]}, 1, None, True]}

    assert render(template, VALUES) == {"${text}": [{"deep": [12, "a plain"]}, 1, None, True]}


def test_a_value_that_looks_like_a_reference_is_not_read_again():
    assert render("${a} and ${a}", {"a": "${b}", "b": "secret"}) == "${b} and ${b}"


def test_neither_template_nor_values_are_changed():
    template, values = {"a": ["${x.y}"]}, {"x": {"y": [1]}}
    before = json.dumps([template, values])

    render(template, values)

    assert json.dumps([template, values]) == before


@pytest.mark.parametrize(
    ("template", "position", "says"),
    [
        ("${", 0, "not closed"),
        ("see ${page.title", 4, "not closed"),
        ("${page[?a=='}]}", 0, "not closed"),
        ("${}", 0, "must begin with a step's key"),
        ("${ }", 0, "must begin with a step's key"),
        ("${1a}", 0, "must begin with a step's key"),
        ("${.a}", 0, "must begin with a step's key"),
        ("${'a'}", 0, "must begin with a step's key"),
        ("${" + "k" * 65 + "}", 0, "must begin with a step's key"),
        ("${length(page)}", 0, "${key | length(@)}"),
        ("ab ${page.}", 10, "ends too early"),
        ("${page.0}", 7, "an item of a list is written [0]"),
        ("${my-key}", 4, "Unknown token"),
        ("${page | lenght(@)}", None, "no function lenght()"),
        ("${page | &a}", None, "can only be given to"),
        ("${page." + "a" * 3000 + "}", None, "longer than"),
    ],
)
def test_a_badly_written_reference_is_refused_with_its_place(template, position, says):
    for door in (names, lambda it: render(it, VALUES)):
        with pytest.raises(ReferenceInvalid) as refused:
            door(template)
        assert says in refused.value.message
        if position is not None:
            assert refused.value.data["position"] == position
    fault = inspect({"a": [template]}, "arguments").faults[0]
    assert (fault["path"], fault["code"]) == ("arguments.a[0]", "reference_syntax")
    assert "$${" in fault["message"]


def test_all_faults_of_a_template_are_found_at_once():
    faults = inspect({"a": "${} ${x} ${y.}", "b": {"odd key": "${"}}).faults

    assert [fault["path"] for fault in faults] == ["a", "a", 'b["odd key"]']


def test_names_are_the_first_names_of_all_references():
    template = {"a": "${page.x} ${input.y} $${no}", "b": ["${rows}", {"${key}": "${page}"}]}

    assert names(template) == {"page", "input", "rows"}
    assert [place.where for place in inspect(template, "t").places] == ["t.a", "t.a", "t.b[0]", 't.b[1]["${key}"]']


def test_a_template_without_references_has_none():
    assert not has_reference({"a": ["x", 1, "$${y}"], "${z}": None})
    assert has_reference({"a": ["x", "${y}"]})
    assert has_reference("${ badly written")


@pytest.mark.parametrize("template", ["${page.none | length(@)}", "${nobody | keys(@)}", "n: ${page.title | sum(@)}"])
def test_a_function_that_cannot_take_its_value_fails_and_names_the_reference(template):
    with pytest.raises(ReferenceFailed) as failed:
        render(template, VALUES)

    assert failed.value.message.startswith(template[template.index("${") :])
    assert not failed.value.retryable


def test_a_failure_does_not_quote_the_value():
    with pytest.raises(ReferenceFailed) as failed:
        render("${a | abs(@)}", {"a": "a secret"})

    assert "secret" not in str(failed.value.as_dict())


def test_many_references_to_a_large_output_do_not_fill_the_memory():
    values = {"big": "x" * 1_000_000}

    for template in ("${big}" * 1_000, ["${big}"] * 1_000, [f"{n}: ${{big}}" for n in range(1_000)]):
        with pytest.raises(PayloadTooLarge):
            render(template, values)
    assert len(render("${big}${big}", values)) == 2_000_000


def test_the_limit_of_the_result_can_be_set():
    assert render("${a}", {"a": "x" * 90}, max_bytes=100) == "x" * 90
    with pytest.raises(PayloadTooLarge, match="larger than 100 bytes"):
        render("${a}", {"a": "ü" * 90}, max_bytes=100)


def test_an_expression_that_doubles_its_value_is_stopped():
    doubling = "|".join(["[@, @]"] * 45)
    with pytest.raises((PayloadTooLarge, ReferenceFailed)):
        render(f"${{a | {doubling}}}", {"a": 1})


def test_all_references_of_a_template_share_one_budget():
    rows = list(range(5_000))
    with pytest.raises(ReferenceFailed, match="too much work"):
        render(["${a[?@ == `-1`]}"] * 1_000, {"a": rows})


def test_a_deep_template_is_refused_not_recursed():
    deep: object = "${a}"
    for _ in range(100_000):
        deep = [deep]
    for door in (names, has_reference, inspect, lambda it: render(it, {})):
        with pytest.raises(PayloadTooLarge, match=f"deeper than {MAX_DEPTH}"):
            door(deep)


def test_a_long_text_is_read_in_linear_time():
    for text in ("${" * 200_000, "$" * 400_000, "{" * 400_000, "${'" + "\\'" * 200_000, "${a" + "{" * 400_000):
        inspect(text)  # the time limit of the test is the assertion


def test_too_many_references_are_refused():
    with pytest.raises(PayloadTooLarge, match="too many references"):
        inspect("${a}" * 11, max_work=10)
    with pytest.raises(PayloadTooLarge, match="too many references"):
        inspect("${a." + "b" * 1_000 + "}", max_work=10)


def test_paths_are_readable_and_printable_whatever_the_keys():
    assert join_path("", "a") == "a"
    assert join_path("a[0]", "b") == "a[0].b"
    assert join_path("a", "b c") == 'a["b c"]'
    assert join_path("a", "\ud800\0").isprintable()
    assert len(join_path("a", "x" * 10_000)) < 100


TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
SYNTAX = st.lists(
    st.sampled_from(
        ["${", "}", "$", "{", "a", "b.c", "[0]", "[*]", "[?", "]", "'", '"', "`", "\\", " ", "|", "@", "x(", ")"]
    ),
    max_size=15,
).map("".join)
TEMPLATES = st.recursive(
    SYNTAX | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SYNTAX, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text(alphabet="${}a'` ") | TEXT)
@example("$${${$$${")
def test_an_escaped_text_renders_to_itself(text):
    assert render(escape(text), {"a": "wrong"}) == text
    assert not has_reference(escape(text))


@settings(deadline=None)
@given(JSON)
def test_every_value_comes_through_a_reference_as_it_is(value):
    assert render("${a}", {"a": value}) is value
    assert render({"k": ["${a}"]}, {"a": value}) == {"k": [value]}
    assert render("${a.b}", {"a": {"b": value}}) == value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert render("<${a}>", {"a": value}) == f"<{text}>"


@settings(deadline=None, max_examples=300)
@given(TEMPLATES, st.dictionaries(st.sampled_from(["a", "b"]), JSON))
def test_no_template_raises_anything_but_an_error_of_ours(template, values):
    faults = inspect(template).faults
    try:
        result = render(template, values)
    except ReferenceInvalid:
        assert faults
    except AgentSysError:
        pass
    else:
        assert not faults
        json.dumps(result, allow_nan=False)
