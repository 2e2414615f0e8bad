"""Evaluating JMESPath at a bounded cost; :mod:`agentsys.core.paths` is the door to it.

The library's interpreter walks what it is told to.  This one spends from a :class:`Budget` at every node it
visits and for what it builds, so that the memory and the time of one evaluation are bounded too.
"""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

from agentsys.core.errors import PathFailed, PayloadTooLarge

#: About a second of a CPU; a usual expression over a document of a megabyte takes a tenth of it.
#: A unit is one visit of a node (about 1 µs), four items of a list or 16 bytes of JSON read or built.
DEFAULT_WORK = 1_000_000
#: Digits beyond which a whole number is refused (Python stops converting at 4,300).
MAX_DIGITS = 1_000
#: Functions that compare what they are given.
_COMPARING = frozenset({"sort", "max", "min"})
_MAX_BITS = int(MAX_DIGITS * math.log2(10))


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


class LimitedFunctions(Functions):
    """The standard functions; those whose cost is not the length of a list pay for it here."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        arguments = list(resolved_args)
        for argument in arguments:
            if isinstance(argument, str):
                self._budget.spend(len(argument) // 256)
        if function_name in _COMPARING:
            self._budget.spend_on(*arguments)
        result = super().call_function(function_name, arguments)
        return None if _is_unstorable(result) else result

    def _create_key_func(self, *arguments: Any) -> Callable[[Any], Any]:
        """Of ``sort_by`` and the like: comparing long keys costs too."""
        key_of = super()._create_key_func(*arguments)  # type: ignore[misc]

        def paid(item: Any) -> Any:
            key = key_of(item)
            self._budget.spend_on(key)
            return key

        return paid

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
        if isinstance(subject, str):
            return isinstance(search, str) and search in subject
        self._budget.spend_on(subject, search)
        return search in subject

    @signature({"types": ["array", "string"]})
    def _func_reverse(self, arg: Any) -> Any:
        self._budget.spend(len(arg) // 16)
        return arg[::-1]


class Interpreter(TreeInterpreter):
    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=LimitedFunctions(budget)))
        self._budget = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._budget.spend(1)
        result = super().visit(node, *args, **kwargs)
        if isinstance(result, list | dict):
            self._budget.spend(len(result) // 4)
        return result

    def visit_comparator(self, node: Any, value: Any) -> bool | None:
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in ("eq", "ne"):
            self._budget.spend_on(left, right)
        elif not _are_ordered(left, right):
            return None
        return bool(self.COMPARATOR_FUNC[node["value"]](left, right))


def to_text(value: Any) -> str:
    """Compact JSON, readable: ``{"a":[1,2]}``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _are_ordered(left: Any, right: Any) -> bool:
    """Only two texts or two numbers have an order."""
    return (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_unstorable(result: Any) -> bool:
    """``to_number('inf')``, a sum that overflows, a number of thousands of digits."""
    if isinstance(result, float):
        return not math.isfinite(result)
    return isinstance(result, int) and result.bit_length() > _MAX_BITS
