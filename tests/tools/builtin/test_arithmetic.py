"""Arithmetic without eval."""

# ruff: noqa: E501, RUF001  (tables of expressions)

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentsys.core.errors import ToolArgumentsInvalid, ToolFailed
from agentsys.tools.builtin.arithmetic import evaluate


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 * (3 + 4)", 14), ("2+3*4", 14), ("2-3-4", -5), ("100/10/2", 5), ("7/2", 3.5), ("-2**2", -4), ("2**-1", 0.5),
        ("2**3**2", 512), ("(-2)**2", 4), ("2^10 - 1", 1023), ("7 // 2", 3), ("-7 // 2", -4), ("17 % 5", 2), ("-7 % 3", 2),
        ("0.1 + 0.2", 0.3), ("1/3 + 1/3 + 1/3", 1), ("12 % of 340", 40.8), ("50% of (2 + 4)", 3), ("3.5 % 1", 0.5),
        ("5!", 120), ("3! + 1", 7), ("--2", 2), ("+2 - -2", 4), ("2 × 3 ÷ 4 − 1", 0.5), ("1e3", 1000), (".5 + 1.", 1.5),
        ("sqrt(16)", 4), ("sqrt(2)", math.sqrt(2)), ("sqrt(1/4)", 0.5), ("pi", math.pi), ("E", math.e), ("sin(0)", 0),
        ("max(1, 2, 3)", 3), ("min(0.5, 1/3)", 1 / 3), ("sum(1,2,3)", 6), ("abs(-3)", 3), ("round(2.567, 2)", 2.57),
        ("round(2.5)", 2), ("floor(-0.5)", -1), ("ceil(1.2)", 2), ("log(8, 2)", 3), ("ln(e)", 1), ("log10(1000)", 3),
        ("gcd(12, 18)", 6), ("lcm(4, 6)", 12), ("factorial(20)", math.factorial(20)), ("0**0", 1),
        ("99999999999999999999 * 3", 299999999999999999997), ("2 ** 100", 2**100), ("1.000000001 ** 100000000", 1.1051709271646142),
        ("17 * 23 =", 391), ("17*23?", 391),
    ],
)  # fmt: skip
def test_arithmetic(call, expression, expected):
    result = call("math.evaluate", expression=expression)
    assert result == {"expression": expression, "value": pytest.approx(expected, rel=1e-12)}
    assert type(result["value"]) is type(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9", "9**99999", "10**1000", "2**2**2**2**2**2", "1e99999", "1e9999999999", "factorial(1000)", "1000!", "3!!!",
        "2**0.5**-99999", "exp(1e5)", "1e308 * 1e308 * 1.5 * 1e900", "(((2**999)**999)**999)**999", "round(1.5, 1e300)",
        "(" * 500, "(" * 300 + "1" + ")" * 300, "2**" * 333 + "1", "-" * 999, "sqrt(" * 150 + "1" + ")" * 150,
    ],
)  # fmt: skip
def test_what_is_too_large_or_too_deep_is_refused_before_it_is_tried(call, expression):
    began = time.monotonic()
    with pytest.raises(ToolFailed):
        call("math.evaluate", expression=expression[:1_000])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "expression",
    [
        "1/0", "1//0", "1 % 0", "0**-1", "2 +", "* 2", "2 3", "2(3)", "(1", "1)", "sqrt", "sqrt 4", "sqrt()", "sqrt(1,2)", "max()",
        "abc", "__import__('os')", "().__class__", "open('/etc/passwd')", "lambda: 1", "1 if 1 else 2", "[1]", "1,000 + 2",
        "sqrt(-1)", "log(0)", "log(-1)", "(-8) ** 0.5", "asin(2)", "0.5!", "(-1)!", "gcd(0.5, 1)", "\0", "١", "²", "1_000", "0x10",
        " ", "=", "1..2", "1.2.3",
    ],
)  # fmt: skip
def test_what_has_no_result_says_so(call, expression):
    with pytest.raises(ToolFailed, match="The expression"):
        call("math.evaluate", expression=expression)


@pytest.mark.parametrize("bad", ["", "1" * 1_001, 5, None, ["1"]])
def test_what_is_no_expression_is_refused(call, bad):
    with pytest.raises(ToolArgumentsInvalid):
        call("math.evaluate", expression=bad)


@given(st.text(alphabet="0123456789.+-*/%^!(), epilogsqrtmax", max_size=60))
def test_whatever_is_written_gives_a_number_or_a_reason(expression):
    try:
        value = evaluate(expression or "1")["value"]
    except ToolFailed:
        return
    assert isinstance(value, int | float)
    assert math.isfinite(value)
