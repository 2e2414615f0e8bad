"""JMESPath with limits: an untrusted expression over JSON cannot hang or fill a worker.

The library alone is not safe for expressions from outside: ``map(&map(&…, `[…]`), `[…]`)`` runs
for ever, ``[@[], @[]][]`` doubles its value every few characters, a mistyped comparison raises
``TypeError``.  Here an expression is checked when it is compiled (functions, number of arguments,
nesting) and an evaluation spends from a :class:`~agentsys.core.path_evaluation.Budget`.

Where the specification leaves it open: an ordering of two unlike values is ``null``; a number that
JSON cannot carry is ``null``; in backticks, what is not JSON is text (the old, still common form).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathTypeError, LexerError, ParseError
from jmespath.parser import Parser

from agentsys.core.errors import PathFailed, PathInvalid
from agentsys.core.path_evaluation import Budget, Interpreter, LimitedFunctions

MAX_EXPRESSION_CHARS = 2_000
#: Nesting of an expression; about four Python frames a level when it is evaluated.
MAX_EXPRESSION_DEPTH = 50

QUOTED = r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+"|`[^`\\]*+(?:\\.[^`\\]*+)*+`"""
_QUOTED = re.compile(QUOTED, re.DOTALL)
#: The only functions that take an expression (``&name``), and at which argument.
_TAKES_EXPRESSION = {"map": 0, "sort_by": 1, "min_by": 1, "max_by": 1}
#: Nodes that look up all but their first child in what that child has found.
_NARROWING = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"}
)
#: Nodes whose children all look at the same value.
_COMBINING = frozenset(
    {"or_expression", "and_expression", "not_expression", "comparator", "flatten", "function_expression"}
    | {"multi_select_list", "multi_select_dict", "key_val_pair"}
)


@dataclass(frozen=True)
class Path:
    """A compiled expression.  Made by :func:`compile_path`; may be shared between threads."""

    expression: str
    tree: dict[str, Any]
    #: Fields looked up in the value itself: ``a`` and ``b`` of ``a.x || b``, none of ``@.a``.
    root_fields: frozenset[str]

    def search(self, value: Any, *, budget: Budget | None = None) -> Any:
        """What the expression finds in ``value``; null where a path is missing.

        The result shares its parts with ``value``: do not change it.

        Raises:
            PathFailed: a function got a type it cannot take, or the budget is spent.
            PayloadTooLarge: a value on the way grew beyond what the budget could read.
        """
        try:
            return Interpreter(budget or Budget()).visit(self.tree, value)
        except JMESPathTypeError as error:
            raise PathFailed(_type_message(error)) from error
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise PathFailed(f"The expression does not fit this value: {_first_line(error)}") from error


@lru_cache(maxsize=128)  # a tree is up to 150 KB
def compile_path(expression: str) -> Path:
    """Compile and check one expression; cached.  About 50 µs for a short one.

    Raises:
        PathInvalid: with ``position``, the character (from 0) where it goes wrong.
    """
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise PathInvalid(f"The expression is longer than {MAX_EXPRESSION_CHARS:,} characters.", position=0)
    tree = _parse(_QUOTED.sub(_json_literal, expression))
    _check(tree)
    return Path(expression, tree, frozenset(_root_fields(tree)))


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


def _parse(expression: str) -> Any:
    try:
        tree: Any = jmespath.compile(expression).parsed
    except ParseError as error:
        position = min(error.lex_position, len(expression))
        raise PathInvalid(f"Not valid JMESPath: {_reason(error)}.", position=position) from error
    except (ValueError, IndexError, RecursionError) as error:
        raise PathInvalid(f"Not valid JMESPath: {_first_line(error)}", position=0) from error
    finally:
        Parser.purge()  # its own cache is by count, not size, and keeps what the checks refuse
    return tree


def _reason(error: ParseError) -> str:
    if isinstance(error, LexerError):
        return str(error.message)[:200]
    kind = error.token_type
    if kind in (None, "EOF"):
        return "it ends too early"
    hint = "; an item of a list is written [0]" if kind == "NUMBER" else ""
    return f"{str(error.token_value)[:50]!r} cannot stand there{hint}"


def _check(tree: dict[str, Any]) -> None:
    """Refuse now what the library finds out late or never."""
    for node, parent, place, depth in _nodes(tree):
        too_deep = f"The expression is nested deeper than {MAX_EXPRESSION_DEPTH}."
        if reason := too_deep if depth > MAX_EXPRESSION_DEPTH else _node_fault(node, parent, place):
            raise PathInvalid(reason, position=0)


def _nodes(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], int, int]]:
    """Each node with its parent, its place among the siblings and its depth."""
    rest: list[tuple[dict[str, Any], dict[str, Any], int, int]] = [(tree, {"type": "root"}, 0, 1)]
    while rest:
        entry = rest.pop()
        yield entry
        node, depth = entry[0], entry[3]
        children = enumerate(node.get("children", ()))
        rest.extend((child, node, place, depth + 1) for place, child in children if isinstance(child, dict))


def _node_fault(node: dict[str, Any], parent: dict[str, Any], place: int) -> str:
    match node["type"]:
        case "function_expression":
            return _function_fault(node["value"], len(node["children"]))
        case "expref" if not _takes_expression(parent, place):
            return f"An expression with & can only be given to {', '.join(sorted(_TAKES_EXPRESSION))}."
        case "slice" if node["children"][2] == 0:
            return "The step of a slice must not be 0."
        case "literal" | "key_val_pair":
            return _literal_fault(node["value"])
    return ""


def _root_fields(tree: dict[str, Any]) -> Iterator[str]:
    rest = [tree]
    while rest:
        node = rest.pop()
        if node["type"] == "field":
            yield node["value"]
        elif node["type"] in _NARROWING:
            rest.append(node["children"][0])
        elif node["type"] in _COMBINING:
            rest.extend(node["children"])


def _takes_expression(node: dict[str, Any], place: int) -> bool:
    """An ``&name`` anywhere else would end up in a result, and it is no value."""
    return node["type"] == "function_expression" and _TAKES_EXPRESSION.get(node["value"]) == place


def _function_fault(name: str, given: int) -> str:
    known = LimitedFunctions.FUNCTION_TABLE.get(name)
    if known is None:
        return f"There is no function {name[:50]}() in JMESPath."
    wanted, many = len(known["signature"]), bool(known["signature"][-1].get("variadic"))
    if given < wanted or (given > wanted and not many):
        return f"{name}() takes {wanted} argument(s), not {given}."
    return ""


def _literal_fault(value: Any) -> str:
    """What an expression brings along must be something the database can store."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return "A literal must be plain JSON (no NaN, no lone surrogates)."
    return "A literal must not contain a NUL character." if "\\u0000" in text else ""


def _type_message(error: JMESPathTypeError) -> str:
    """The library's own message quotes the whole value, which may be huge or secret."""
    wanted = " or ".join(str(name).replace("array-", "array of ") for name in error.expected_types)
    return f"{error.function_name}() takes {wanted}, not {error.actual_type}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
