"""JMESPath with limits: an untrusted expression over JSON cannot hang or fill a worker.

The library alone is not safe for expressions from outside: ``map(&map(&…, `[…]`), `[…]`)`` runs
for ever, ``[@[], @[]][]`` doubles its value every few characters, a mistyped comparison raises
``TypeError``.  Here an expression is checked when it is compiled (functions, number of arguments,
nesting) and an evaluation spends from a :class:`Budget`.

Where the specification leaves it open: an ordering of two unlike values is ``null``; a number that
JSON cannot carry is ``null``; in backticks, what is not JSON is text (the old, still common form).
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathTypeError, ParseError
from jmespath.functions import Functions, signature
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from agentsys.core.errors import PathFailed, PathInvalid, PayloadTooLarge

MAX_EXPRESSION_CHARS = 2_000
#: Nesting of an expression; about four Python frames a level when it is evaluated.
MAX_EXPRESSION_DEPTH = 50
#: A unit is one visit of a node (about 1 µs), four list items or 16 characters built.
DEFAULT_WORK = 2_000_000
#: Digits beyond which a whole number is refused (Python stops converting at 4,300).
MAX_DIGITS = 1_000

QUOTED = r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+"|`[^`\\]*+(?:\\.[^`\\]*+)*+`"""
_QUOTED = re.compile(QUOTED, re.DOTALL)
_MAX_BITS = int(MAX_DIGITS * math.log2(10))
#: The only functions that take an expression (``&name``), and at which argument.
_TAKES_EXPRESSION = {"map": 0, "sort_by": 1, "min_by": 1, "max_by": 1}


def weigh(value: Any, *, limit_bytes: int) -> int:
    """Roughly the size of ``value`` as JSON, in bytes.  Costs about 0.1 µs a node, never recurses.

    Raises:
        PayloadTooLarge: it is over ``limit_bytes``; found out without walking further.
    """
    total, rest = 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            total += 2 + (len(item) if item.isascii() else len(item.encode("utf-8", "replace")))
        elif isinstance(item, dict):
            total += 2 + sum(len(key) + 4 for key in item if isinstance(key, str))
            rest.extend(item.values())
        elif isinstance(item, list):
            total += 2 + len(item)
            rest.extend(item)
        else:
            total += 4 + item.bit_length() // 3 if isinstance(item, int) else 8
        if total > limit_bytes:
            raise PayloadTooLarge(f"The value is larger than {limit_bytes:,} bytes; ask for less of it.")
    return total


class Budget:
    """Work that evaluations sharing it may still do, in units (see ``DEFAULT_WORK``)."""

    __slots__ = ("left",)

    def __init__(self, units: int = DEFAULT_WORK) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise PathFailed("The expression takes too much work; make it simpler or its input smaller.")

    def spend_on(self, *values: Any) -> None:
        """Pay for reading ``values`` as deep as they go."""
        for value in values:
            self.spend(weigh(value, limit_bytes=16 * max(self.left, 0)) // 16)


@dataclass(frozen=True)
class Path:
    """A compiled expression.  Made by :func:`compile_path`; may be shared between threads."""

    expression: str
    tree: dict[str, Any]

    def search(self, value: Any, *, budget: Budget | None = None) -> Any:
        """What the expression finds in ``value``; null where a path is missing.

        The result shares its parts with ``value``: do not change it.

        Raises:
            PathFailed: a function got a type it cannot take, or the budget is spent.
            PayloadTooLarge: a value on the way grew beyond what the budget could read.
        """
        try:
            return _Interpreter(budget or Budget()).visit(self.tree, value)
        except JMESPathTypeError as error:
            raise PathFailed(_type_message(error)) from error
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise PathFailed(f"The expression does not fit this value: {_first_line(error)}") from error


@lru_cache(maxsize=256)
def compile_path(expression: str) -> Path:
    """Compile and check one expression; cached.  About 50 µs for a short one.

    Raises:
        PathInvalid: with ``position``, the character (from 0) where it goes wrong.
    """
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise PathInvalid(f"The expression is longer than {MAX_EXPRESSION_CHARS:,} characters.", position=0)
    tree = _parse(_QUOTED.sub(_json_literal, expression))
    _check(tree)
    return Path(expression, tree)


def _json_literal(quoted: re.Match[str]) -> str:
    """`` `text` `` becomes `` `"text"` ``: the library would warn at each such literal."""
    if not quoted[0].startswith("`"):
        return quoted[0]
    body = quoted[0][1:-1]
    try:
        json.loads(body.replace("\\`", "`"))
    except (ValueError, RecursionError):
        return f'`"{body.lstrip()}"`'
    return quoted[0]


def _parse(expression: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = jmespath.compile(expression).parsed
    except IncompleteExpressionError as error:
        raise PathInvalid("The expression is not complete.", position=len(expression)) from error
    except ParseError as error:
        reason = getattr(error, "message", None) or error.msg
        raise PathInvalid(f"Not valid JMESPath: {reason}.", position=error.lex_position) from error
    except (ValueError, IndexError, RecursionError) as error:
        raise PathInvalid(f"Not valid JMESPath: {_first_line(error)}", position=0) from error
    finally:
        Parser.purge()  # its own cache is by count, not size, and keeps what the checks refuse
    return tree


def _check(tree: dict[str, Any]) -> None:
    """Refuse now what the library finds out late or never."""
    for node, parent, place, depth in _nodes(tree):
        if depth > MAX_EXPRESSION_DEPTH:
            raise PathInvalid(f"The expression is nested deeper than {MAX_EXPRESSION_DEPTH}.", position=0)
        check = _CHECKS.get(node["type"])
        if check is not None:
            check(node, parent, place)


def _nodes(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], int, int]]:
    """Each node with its parent, its place among the siblings and its depth."""
    rest: list[tuple[dict[str, Any], dict[str, Any], int, int]] = [(tree, {"type": "root"}, 0, 1)]
    while rest:
        entry = rest.pop()
        yield entry
        node, depth = entry[0], entry[3]
        children = enumerate(node.get("children", ()))
        rest.extend((child, node, place, depth + 1) for place, child in children if isinstance(child, dict))


def _check_function(node: dict[str, Any], parent: dict[str, Any], place: int) -> None:
    name, given = node["value"], len(node["children"])
    known = _Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise PathInvalid(f"There is no function {name}() in JMESPath.", position=0)
    wanted, many = len(known["signature"]), bool(known["signature"][-1].get("variadic"))
    if given < wanted or (given > wanted and not many):
        raise PathInvalid(f"{name}() takes {wanted} argument(s), not {given}.", position=0)


def _check_expref(node: dict[str, Any], parent: dict[str, Any], place: int) -> None:
    """``&name`` is no value: it must not end up in a result."""
    if parent["type"] != "function_expression" or _TAKES_EXPRESSION.get(parent["value"]) != place:
        takers = ", ".join(sorted(_TAKES_EXPRESSION))
        raise PathInvalid(f"An expression with & can only be given to {takers}.", position=0)


def _check_slice(node: dict[str, Any], parent: dict[str, Any], place: int) -> None:
    if node["children"][2] == 0:
        raise PathInvalid("The step of a slice must not be 0.", position=0)


def _check_literal(node: dict[str, Any], parent: dict[str, Any], place: int) -> None:
    """What an expression brings along must be something the database can store."""
    try:
        text = json.dumps(node["value"], ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise PathInvalid("A literal must be plain JSON (no NaN, no lone surrogates).", position=0) from error
    if "\\u0000" in text:
        raise PathInvalid("A literal must not contain a NUL character.", position=0)


_CHECKS = {
    "function_expression": _check_function,
    "expref": _check_expref,
    "slice": _check_slice,
    "literal": _check_literal,
    "key_val_pair": _check_literal,
}


class _Functions(Functions):  # type: ignore[misc]
    """The standard functions; those whose cost is not the length of a list pay for it here."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: list[Any]) -> Any:
        result = super().call_function(function_name, resolved_args)
        return None if _is_unstorable(result) else result

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        self._budget.spend((len(separator) * len(array) + sum(map(len, array))) // 16)
        return separator.join(array)

    @signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        self._budget.spend_on(arg)
        return arg if isinstance(arg, str) else to_text(arg)

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: Any, search: Any) -> bool:
        self._budget.spend_on(subject, search)
        if isinstance(subject, str):
            return isinstance(search, str) and search in subject
        return search in subject

    @signature({"types": ["array", "string"]})
    def _func_reverse(self, arg: Any) -> Any:
        self._budget.spend(len(arg) // 16)
        return arg[::-1]


class _Interpreter(TreeInterpreter):  # type: ignore[misc]
    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=_Functions(budget)))
        self._budget = budget

    def visit(self, node: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._budget.spend(1)
        result = super().visit(node, *args, **kwargs)
        if isinstance(result, list | dict):
            self._budget.spend(len(result) // 4)
        return result

    def visit_comparator(self, node: dict[str, Any], value: Any) -> bool | None:
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in self._EQUALITY_OPS:
            self._budget.spend_on(left, right)
        elif not _are_ordered(left, right):
            return None
        return bool(self.COMPARATOR_FUNC[node["value"]](left, right))


def to_text(value: Any) -> str:
    """Compact JSON, readable: ``{"a":[1,2]}``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _are_ordered(left: Any, right: Any) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str)
    numbers = (int, float)
    return not isinstance(left, bool) and not isinstance(right, bool) and (
        isinstance(left, numbers) and isinstance(right, numbers)
    )


def _is_unstorable(result: Any) -> bool:
    """``to_number('inf')``, a sum that overflows, a number of thousands of digits."""
    if isinstance(result, float):
        return not math.isfinite(result)
    return isinstance(result, int) and result.bit_length() > _MAX_BITS


def _type_message(error: JMESPathTypeError) -> str:
    """The library's own message quotes the whole value, which may be huge or secret."""
    wanted = " or ".join(str(name).replace("array-", "array of ") for name in error.expected_types)
    return f"{error.function_name}() takes {wanted}, not {error.actual_type}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
