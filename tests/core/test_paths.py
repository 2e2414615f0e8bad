"""JMESPath from outside: right on the useful, cheap on the hostile."""

import contextlib

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsys.core.errors import AgentSysError, PathFailed, PathInvalid, PayloadTooLarge
from agentsys.core.path_evaluation import Budget, weigh
from agentsys.core.paths import MAX_EXPRESSION_CHARS, compile_path

SHOP = {
    "name": "shop",
    "items": [
        {"sku": "a", "price": 3, "tags": ["x", "y"]},
        {"sku": "b", "price": 1.5, "tags": []},
        {"sku": "c", "price": None},
    ],
    "odd key": {"}": 1},
}


@pytest.mark.parametrize(
    "expression",
    [
        "name",
        "items[0].sku",
        "items[-1].sku",
        "items[*].sku",
        "items[].tags[]",
        "items[?price > `2`].sku",
        "items[?sku == 'b'] | [0].price",
        '"odd key"."}"',
        "items[1:].sku",
        "items[::-1].sku",
        "missing.path[3].deep",
        "{first: items[0].sku, all: length(items)}",
        "sort_by(items[?price], &price)[*].sku",
        "max_by(items[:2], &price).sku",
        "map(&sku, items)",
        "join(', ', items[*].sku)",
        "sum(items[:2].price)",
        "to_string(items[1])",
        "keys(@)",
        "contains(items[0].tags, 'x') && !contains(name, 'z')",
        "missing || 'default'",
        "reverse(name)",
        "not_null(missing, name)",
        "to_number('12')",
        "merge(items[0], {extra: `1`})",
        "items[*].[sku, price]",
    ],
)
def test_an_expression_means_what_the_library_says(expression):
    assert compile_path(expression).search(SHOP) == jmespath.search(expression, SHOP)


def test_text_in_backticks_needs_no_quotes_and_gives_no_warning():
    assert compile_path("items[?sku == `b`].price").search(SHOP) == [1.5]
    assert compile_path('items[?sku == `"b"`].price').search(SHOP) == [1.5]
    assert compile_path("missing || `a \\` b`").search(SHOP) == "a ` b"


@pytest.mark.parametrize("expression", ["name < `1`", "items[0] >= items[1]", "`true` < `2`"])
def test_an_order_of_unlike_values_is_null(expression):
    assert compile_path(expression).search(SHOP) is None


@pytest.mark.parametrize(
    "expression",
    ["to_number('inf')", "to_number('nan')", "sum(`[1e308, 1e308]`)", "to_number(join('', map(&'9999999999', big)))"],
)
def test_a_number_that_json_cannot_carry_is_null(expression):
    assert compile_path(expression).search({"big": list(range(101))}) is None


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "empty"),
        ("a.", "ends too early"),
        ("a[", "ends too early"),
        ("a b", "'b' cannot stand there"),
        ("a.0", "an item of a list is written [0]"),
        ("a-b", "Unknown token"),
        ("'open", "Unclosed"),
        ("lenght(@)", "no function lenght()"),
        ("length()", "takes 1 argument"),
        ("length(a, b)", "takes 1 argument"),
        ("&a", "can only be given to"),
        ("[&a]", "can only be given to"),
        ("{map: &a}", "can only be given to"),
        ("to_array(&a)", "can only be given to"),
        ("a[::0]", "must not be 0"),
        ("`NaN`", "plain JSON"),
        ("`[1e999]`", "plain JSON"),
        ('`"\\ud800"`', "plain JSON"),
        ('{"\\u0000": a}', "NUL"),
        ("(" * 900 + "a" + ")" * 900, "Not valid"),
        ("!" * 60 + "a", "nested deeper"),
        ("||".join("a" * 500), "nested deeper"),
        ("a" * (MAX_EXPRESSION_CHARS + 1), "longer than"),
    ],
)
def test_what_cannot_work_is_refused_when_compiled(expression, says):
    with pytest.raises(PathInvalid) as refused:
        compile_path(expression)

    assert says in refused.value.message
    assert 0 <= refused.value.data["position"] <= len(expression)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("length(missing)", "length() takes string or array or object, not null."),
        ("sum(items[*].sku)", "sum() takes array of number"),
        ("max_by(items, &tags)", "max_by() takes"),
        ("abs(name)", "abs() takes number, not string."),
    ],
)
def test_a_function_that_gets_the_wrong_type_says_so(expression, says):
    with pytest.raises(PathFailed) as failed:
        compile_path(expression).search(SHOP)

    assert says in failed.value.message


def test_the_message_of_a_failure_does_not_quote_the_value():
    with pytest.raises(PathFailed) as failed:
        compile_path("abs(@)").search("a secret")

    assert "secret" not in failed.value.message


LONG_LIST = "`[" + ",".join("1" * 30) + "]`"


@pytest.mark.parametrize(
    "bomb",
    [
        "map(&" * 20 + "@" + f", {LONG_LIST})" * 20,
        "|".join(["[@[], @[]][]"] * 40),
        "|".join(["[@, @]"] * 40) + "|to_string(@)",
        "|".join(["[@, @]"] * 40) + f"| @ == [{'@'}]",
        "|".join(["[@, @]"] * 40) + "| contains(@, [@])",
        "|".join(["[@[], @[]][]"] * 14) + f"| map(&'{'x' * 1000}', @) | join('{'y' * 500}', @)",
        "|".join(["join('', [@, @])"] * 40),
        "[*].[" + ",".join("@" * 49) + "]" + "[]|[*].[@,@,@,@,@,@,@,@][]" * 30,
    ],
)
def test_a_bomb_is_stopped_by_its_budget(bomb):
    value = "x" * 100 if bomb.startswith("join") else list(range(1_000))

    with pytest.raises((PathFailed, PayloadTooLarge)):
        compile_path(bomb).search(value, budget=Budget(200_000))


def test_sorting_long_texts_costs_what_it_reads():
    value = {"a": "x" * 400_000, "b": "x" * 400_000 + "b"}

    with pytest.raises((PathFailed, PayloadTooLarge)):
        compile_path("[[a, b], [b, a]][]" + "|[@, @][]" * 12 + "|sort(@)").search(value)
    with pytest.raises((PathFailed, PayloadTooLarge)):
        compile_path("[[a, b], [b, a]][]" + "|[@, @][]" * 12 + "|sort_by(@, &@)").search(value)


def test_a_document_of_a_megabyte_is_no_bomb():
    rows = [{"id": number, "name": f"row {number}", "ok": number % 2 == 0} for number in range(20_000)]

    found = compile_path("rows[?ok].{id: id, label: name} | sort_by(@, &label) | [-1]").search({"rows": rows})

    assert found == {"id": 9998, "label": "row 9998"}


def test_a_size_is_found_without_walking_all_of_a_shared_value():
    doubled: list = []
    for _ in range(100):
        doubled = [doubled, doubled]
    endless: list = []
    endless.append(endless)

    for value in (doubled, endless):
        with pytest.raises(PayloadTooLarge):
            weigh(value, limit_bytes=100_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=15,
)
PARTS = st.one_of(
    st.sampled_from(list("ab.[]*|&!<@-0:(){},' `\\")),
    st.sampled_from(["[]", "[*]", "[?", "||", "&&", "==", "'x'", '"a"', "`1`", "`x`"]),
    st.sampled_from(["length(", "sort_by(", "map(", "to_string("]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=12).map("".join), JSON)
def test_no_expression_and_no_value_raise_anything_else(expression, value):
    with contextlib.suppress(AgentSysError):
        compile_path(expression).search(value)
