"""Arithmetic without eval: a parser of a hundred lines that computes as it reads.

Whole numbers and decimals are exact fractions as long as the operations allow, so 0.1 + 0.2 is 0.3.
Every size is bounded before it is computed: 9**9**9 is refused, not tried.
"""

# ruff: noqa: RUF001  (the typographic marks are meant)

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.registry import tool

Number = Fraction | float

MAX_DIGITS = 1_000
_MAX_BITS = int(MAX_DIGITS * math.log2(10))
MAX_DEPTH = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,4})?)|(?P<name>[a-z][a-z0-9_]*)"
    r"|(?P<operator>\*\*|//|%\s*of\b|[-+*/%^(),!]))",
    re.IGNORECASE | re.ASCII,
)
_SYMBOLS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "^"})
_CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}


class Result(TypedDict):
    expression: str
    value: int | float


@tool(
    name="math.evaluate",
    effect="pure",
    lane="compute",
    timeout_s=5.0,
    result_path="value",
    examples=(
        "compute 2 * (3 + 4)",
        "calculate 17 * 23",
        "evaluate sqrt(2) / 3",
        "what is 12 % of 340",
        "work out 2^10 - 1",
    ),
)
def evaluate(
    expression: Annotated[
        str, Field(min_length=1, max_length=1_000, description="Such as (2 + 3) * 4 ** 2 or sqrt(2) * pi.")
    ],
) -> Result:
    """Compute an arithmetic expression.  Use it instead of computing yourself.

    Knows + - * / // % ** (or ^) ! and brackets, "12 % of 340", pi, e, tau, and abs, acos, asin, atan, ceil,
    cos, degrees, exp, factorial, floor, gcd, lcm, log, log10, log2, max, min, radians, round, sin, sqrt,
    sum, tan.
    """
    try:
        value = _Parser(expression.translate(_SYMBOLS)).result()
    except ZeroDivisionError as error:
        raise ToolFailed("The expression divides by zero.") from error
    except (OverflowError, ValueError, TypeError) as error:
        raise ToolFailed(f"The expression has no result: {error}"[:300]) from error
    return Result(expression=expression, value=_plain(value))


def _plain(value: Number) -> int | float:
    """A whole number as int, anything else as float."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    if not math.isfinite(value):
        raise OverflowError("it is too large")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


class _Parser:
    """Precedence climbing; each method returns the value of what it has read."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def result(self) -> Number:
        value = self._sum()
        if self._peek():
            raise ValueError(f"{self._peek()!r} is not expected here")
        return value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *operators: str) -> str:
        """The next token if it is one of these, else ""."""
        found = self._peek()
        if found not in operators:
            return ""
        self._at += 1
        return found

    def _sum(self) -> Number:
        value = self._product()
        while operator := self._take("+", "-"):
            other = self._product()
            value = _checked(value + other if operator == "+" else value - other)
        return value

    def _product(self) -> Number:
        value = self._signed()
        while operator := self._take("*", "/", "//", "%", "%of"):
            value = _checked(_PRODUCTS[operator](value, self._signed()))
        return value

    def _signed(self) -> Number:
        sign = 1
        while operator := self._take("+", "-"):
            sign = -sign if operator == "-" else sign
        value = self._power()
        return -value if sign < 0 else value

    def _power(self) -> Number:
        base = self._postfix()
        if not self._take("**", "^"):
            return base
        self._enter()
        exponent = self._signed()  # right to left, and 2 ** -1 is allowed
        self._depth -= 1
        return _checked(_power(base, exponent))

    def _postfix(self) -> Number:
        value = self._atom()
        while self._take("!"):
            value = _factorial(value)
        return value

    def _atom(self) -> Number:
        token = self._peek()
        self._at += 1
        if token.startswith("("):
            value = self._inside()[0]
        elif token[:1].isdigit() or token[:1] == ".":
            value = _number(token)
        elif token in _FUNCTIONS:
            if not self._take("("):
                raise ValueError(f"{token} needs brackets: {token}(…)")
            value = _checked(_call(token, self._inside(many=True)))
        elif token in _CONSTANTS:
            value = _CONSTANTS[token]
        else:
            raise ValueError(f"{token!r} is not expected here" if token else "it is not complete")
        return value

    def _inside(self, *, many: bool = False) -> list[Number]:
        """What is in brackets, the opening one read already."""
        self._enter()
        values = [self._sum()]
        while many and self._take(","):
            values.append(self._sum())
        if not self._take(")"):
            raise ValueError("a closing bracket is missing")
        self._depth -= 1
        return values

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    text = text.rstrip().rstrip("=?").rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f"{text[at:].strip()[:20]!r} is not arithmetic")
        tokens.append("%of" if "of" in match[0].lower() and "%" in match[0] else match[0].strip().lower())
        at = match.end()
    return tokens


def _number(token: str) -> Fraction:
    exponent = token.partition("e")[2]
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise OverflowError("a number is too large or too small")
    return Fraction(token)


def _checked(value: Number) -> Number:
    if isinstance(value, complex):
        raise ValueError("it is not a real number")
    if isinstance(value, Fraction) and _bits(value) > _MAX_BITS:
        return _inexact(value)
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _inexact(value: Fraction) -> float:
    """A fraction grown too long goes on as a float; a whole number so long has no result."""
    if value.denominator == 1:
        raise OverflowError(f"it has more than {MAX_DIGITS} digits")
    return float(value)


def _power(base: Number, exponent: Number) -> Number:
    if not isinstance(base, Fraction) or not isinstance(exponent, Fraction) or exponent.denominator != 1:
        return float(base) ** float(exponent)
    if _bits(base) > 1 and _bits(base) * abs(exponent.numerator) > 2 * _MAX_BITS:
        return _inexact(base) ** float(exponent)
    return base**exponent.numerator


def _whole(value: Number) -> int:
    if value != int(value):
        raise ValueError("a whole number is needed")
    return int(value)


def _factorial(value: Number) -> Fraction:
    if not 0 <= value <= 450:
        raise ValueError("factorial takes whole numbers from 0 to 450")
    return Fraction(math.factorial(_whole(value)))


def _sqrt(value: Number) -> Number:
    """Exact where it can be: sqrt(16) is 4."""
    if isinstance(value, Fraction) and value >= 0:
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return root
    return math.sqrt(value)


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    places = _whole(digits)
    if abs(places) > 300:
        raise ValueError("round takes at most 300 digits")
    return Fraction(round(Fraction(value), places))


def _log(value: Number, base: Number | None = None) -> float:
    return math.log(value) if base is None else math.log(value, base)


def _float(function: Callable[[float], float]) -> Callable[[Number], Number]:
    return lambda value: function(float(value))


def _call(name: str, values: list[Number]) -> Number:
    return _FUNCTIONS[name](*values)


_PRODUCTS: dict[str, Callable[[Number, Number], Number]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: Fraction(a // b),
    "%": lambda a, b: a % b,
    "%of": lambda a, b: a * b / 100,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "acos": _float(math.acos),
    "asin": _float(math.asin),
    "atan": _float(math.atan),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "cos": _float(math.cos),
    "degrees": _float(math.degrees),
    "exp": _float(math.exp),
    "factorial": _factorial,
    "floor": lambda value: Fraction(math.floor(value)),
    "gcd": lambda *values: Fraction(math.gcd(*map(_whole, values))),
    "lcm": lambda *values: Fraction(math.lcm(*map(_whole, values))),
    "log": _log,
    "ln": _log,
    "log10": _float(math.log10),
    "log2": _float(math.log2),
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
    "radians": _float(math.radians),
    "round": _round,
    "sin": _float(math.sin),
    "sqrt": _sqrt,
    "sum": lambda *values: sum(values, Fraction(0)),
    "tan": _float(math.tan),
}
