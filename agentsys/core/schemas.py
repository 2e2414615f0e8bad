"""JSON Schemas that come from outside: used within bounds, so that none can hang a worker or reach out.

Three things of the library are replaced.  Patterns are searched by an engine of linear time (Rust's, by way
of pydantic): Python's takes ages over ``(a+)+$`` and lets no other thread run meanwhile.  Unique items are
found by a set and not by comparing all with all.  And every keyword looked at is counted, for a schema that
refers to itself twice a level takes twice as long with each level.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as NoSchema
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from agentsys.core.errors import OutputInvalid
from agentsys.core.faults import fault

#: Keywords looked at in one check; about 30 microseconds each, so some seconds of one step's time.
MAX_WORK = 200_000
#: The same where others wait for the answer, as for a run's lock: below a second.
HURRIED_WORK = 20_000
_left: ContextVar[int] = ContextVar("_left")
Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Errors | None]


def faults(schema: Any, *, path: str = "output_schema") -> list[dict[str, str]]:
    """What keeps ``schema`` from being used, as {path, code, message}; None is fine.

    Asked before a schema is stored, of an agent or of a submission.
    """
    if schema is None:
        return []
    found = list(_shape_faults(schema, path))
    message = "Not a JSON Schema that can be used:"
    return found or [fault(path, "bad_value", f"{message} {problem}") for problem in _unusable(schema)]


class Unusable(ValueError):
    """A schema that a value cannot be checked with: it is none, refers outside, or takes too much work."""


def mismatches(value: Any, schema: Any, *, most: int, work: int = MAX_WORK) -> list[ValidationError]:
    """Where a value does not fit and why; at most ``most``, none if it fits.

    Args:
        work: Keywords that may be looked at.

    Raises:
        Unusable: nothing can be said, and why.
    """
    token = _left.set(work)
    try:
        # Without a registry of ours the library would fetch what a $ref names.
        bounded = _Bounded(_without_dialect(schema), registry=Registry())
        return list(itertools.islice(bounded.iter_errors(value), most))
    except RecursionError as error:
        raise Unusable("It refers to itself without end.") from error
    except UnknownType as error:
        raise Unusable(f"There is no type {str(error.type)[:100]!r}.") from error
    except (Unresolvable, SchemaError, _TooMuch) as error:
        raise Unusable(str(error)[:300]) from error
    finally:
        _left.reset(token)


def check(value: Any, schema: Any, *, work: int = MAX_WORK) -> None:
    """Check a result against a JSON Schema.

    Raises:
        OutputInvalid: it does not fit, and the message says where and why; or the schema cannot be used.
    """
    try:
        found = mismatches(value, schema, most=1, work=work)
    except Unusable as error:
        raise OutputInvalid(f"The output schema cannot be used. {error}") from error
    for mismatch in found:
        where = ".".join(str(part) for part in mismatch.absolute_path)[:200] or "result"
        raise OutputInvalid(f"{where}: {mismatch.message[:500]}", path=where)


def _shape_faults(schema: Any, path: str) -> Iterator[dict[str, str]]:
    """What keeps ``schema`` from being a JSON Schema (2020-12) that stands by itself."""
    if not isinstance(schema, dict):
        yield fault(path, "type", "A JSON Schema here is an object.")
        return
    if outside := next(_outside_references(schema), None):
        yield fault(path, "bad_value", f"References must stay inside the schema (#…), not {outside[:100]!r}.")
        return
    try:
        Draft202012Validator.check_schema(schema)
    except NoSchema as error:
        where = "".join(f".{part}" for part in error.absolute_path)
        yield fault(path + where, "bad_value", f"Not a JSON Schema: {error.message[:300]}")
    except RecursionError:
        yield fault(path, "too_deep", "The schema is nested too deeply.")


def _outside_references(schema: Any) -> Iterator[str]:
    """References that a validator would have to fetch."""
    for word, value in _words(schema):
        if word in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            yield value


class _TooMuch(Exception):
    """The check takes too much work."""


def _unusable(schema: Any) -> Iterator[str]:
    words = set()
    for word, value in _words(schema):
        words.add(word)
        for pattern in _patterns(word, value):
            if not _is_pattern(pattern):
                yield f"{pattern[:100]!r} is no pattern of linear time; leave out look-around and back-references."
    if {"unevaluatedProperties", "patternProperties"} <= words:
        yield "patternProperties and unevaluatedProperties do not go together here."


def _words(schema: Any) -> Iterator[tuple[str, Any]]:
    rest = [schema]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            yield from item.items()
        rest += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _patterns(word: str, value: Any) -> list[str]:
    if word == "pattern" and isinstance(value, str):
        return [value]
    return list(value) if word == "patternProperties" and isinstance(value, dict) else []


def _without_dialect(schema: Any) -> Any:
    """``$schema`` would bring in the library's own validator in place of ours."""
    if isinstance(schema, list):
        return [_without_dialect(part) for part in schema]
    if isinstance(schema, dict):
        items = schema.items()
        return {k: _without_dialect(v) for k, v in items if k != "$schema" or not isinstance(v, str)}
    return schema


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _is_pattern(pattern: str) -> bool:
    try:
        _compiled(pattern)
    except SchemaError:
        return False
    return True


def _found(pattern: str, text: str) -> bool:
    return bool(_compiled(pattern).isinstance_python(text))


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Errors:
    if validator.is_type(instance, "string") and not _found(pattern, instance):
        yield ValidationError(f"{instance[:100]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, properties: Mapping[str, Any], instance: Any, _schema: Any) -> Errors:
    if validator.is_type(instance, "object"):
        for pattern, subschema in properties.items():
            for name in [name for name in instance if _found(pattern, name)]:
                yield from validator.descend(instance[name], subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, subschema: Any, instance: Any, schema: Mapping[str, Any]) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in known or any(_found(pattern, name) for pattern in patterns):
            continue
        if subschema is False:
            yield ValidationError(f"{name[:100]!r} is not a property that it may have")
        else:
            yield from validator.descend(instance[name], subschema, path=name)


def _unique_items(validator: Any, wanted: bool, instance: Any, _schema: Any) -> Errors:
    if wanted and validator.is_type(instance, "array"):
        seen = {json.dumps(_whole(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("its items are not unique")


def _whole(value: Any) -> Any:
    """1.0 and 1 are one number for JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {name: _whole(item) for name, item in value.items()} if isinstance(value, dict) else value


def _counted(keyword: Keyword) -> Keyword:
    def counting(validator: Any, value: Any, instance: Any, schema: Any) -> Errors | None:
        left = _left.get() - 1
        _left.set(left)
        if left < 0:
            raise _TooMuch("Checking this result takes too much work.")
        return keyword(validator, value, instance, schema)

    return counting


_REPLACED: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_Bounded = extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_REPLACED}.items()},
)
