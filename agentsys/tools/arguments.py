"""A function's signature as a JSON Schema, and arguments checked against it.

The schema decides, not Python's habits: ``"5"`` is no integer.  Fields of the pydantic model that
does the checking are named a0, a1, …, with the real names as aliases, so that a parameter called
``json`` or ``schema`` cannot collide with a method of the model.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from agentsys.tools.context import ToolContext

_CODES = {"missing": "missing", "extra_forbidden": "unknown"}
_MESSAGES = {
    "missing": "This argument is required",
    "extra_forbidden": "The tool has no such argument",
    "json_invalid": "Arguments must be JSON of moderate depth, its texts valid Unicode",
}
_REFUSED_KINDS = (
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
    inspect.Parameter.POSITIONAL_ONLY,
)


class Fault(TypedDict):
    """One thing wrong; ``code`` is missing, unknown, type or value."""

    path: str
    code: str
    message: str


class Checks(Protocol):
    """What says whether a call may be made: a function's signature, or a schema alone."""

    @property
    def context(self) -> str | None:
        """The parameter that takes the ToolContext."""
        ...

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function wants them; raises ValueError where they do not fit."""
        ...

    def faults(self, arguments: Any, *, skip: Callable[[Any], bool] | None = None) -> list[Fault]:
        """Every fault of the arguments."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """How to check a call and make it."""

    model: type[BaseModel]
    names: dict[str, str]  # field of the model -> parameter
    context: str | None  # the parameter that takes the ToolContext
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> "Signature":
        """Read a function.

        Raises:
            TypeError: a parameter has no type, a type without JSON Schema, or is *args, **kwargs.
        """
        hints = get_type_hints(function, include_extras=True)
        parameters = dict(inspect.signature(function).parameters)
        context = _context_parameter(parameters, hints)
        if context:
            del parameters[context]
        fields, names = _fields(name, parameters, hints)
        model = _model(name, fields)
        return cls(
            model=model,
            names=names,
            context=context,
            input_schema=_tidy(model.model_json_schema(by_alias=True)),
            output_schema=_output_schema(hints.get("return", Any)),
        )

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function wants them, defaults filled in.

        Raises:
            ValidationError: they do not fit.
        """
        # By way of JSON, so that dates, enums and tuples may be written as JSON writes them while
        # numbers in quotes stay refused.
        checked = self.model.model_validate_json(json.dumps(arguments, allow_nan=False), strict=True)
        return {name: getattr(checked, field) for field, name in self.names.items()}

    def faults(self, arguments: Any, *, skip: Callable[[Any], bool] | None = None) -> list[Fault]:
        """Every fault of the arguments; see :func:`faults`."""
        return faults(self, arguments, skip=skip)


def _context_parameter(parameters: Mapping[str, Any], hints: Mapping[str, Any]) -> str | None:
    for name in parameters:
        if hints.get(name) is ToolContext or (name == "ctx" and name not in hints):
            return name
    return None


def _fields(
    tool: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind in _REFUSED_KINDS:
            raise TypeError(f"Tool {tool}: {name} must be an ordinary parameter, not *, ** or positional-only.")
        if name not in hints:
            raise TypeError(f"Tool {tool}: parameter {name} needs a type; types make the schema.")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[f"a{number}"] = (hints[name], Field(default, alias=name))
        names[f"a{number}"] = name
    return fields, names


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, protected_namespaces=())
    try:
        return create_model(name.replace(".", "_"), __config__=config, **fields)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise TypeError(f"Tool {name}: a parameter's type has no JSON Schema: {error.message}") from error


def _output_schema(hint: Any) -> dict[str, Any] | None:
    if hint is Any:
        return None
    try:
        return _tidy(TypeAdapter(hint).json_schema(mode="serialization"))
    except PydanticUserError:  # a result without a schema is still a result
        return None


def _tidy(schema: Any) -> Any:
    """Without pydantic's generated titles: tokens that tell a model nothing."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A *property* may be called "title": then its value is a schema, not a string.
    return {k: _tidy(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}


def faults(signature: Signature, arguments: Any, *, skip: Callable[[Any], bool] | None = None) -> list[Fault]:
    """Every fault of the arguments, in the order of the parameters; [] when the call may be made.

    Args:
        skip: Tells whether a value is unknown yet (a reference): such a value is accepted, and so is
            what a fault inside or around it may come from.
    """
    if not isinstance(arguments, Mapping):
        return [Fault(path="", code="type", message="Arguments must be an object.")]
    try:
        signature.check(arguments)
    except ValidationError as error:
        return from_pydantic(error, arguments, skip=skip)
    except (TypeError, ValueError, RecursionError) as error:
        return [Fault(path="", code="value", message=f"Arguments are not JSON: {type(error).__name__}.")]
    return []


def from_pydantic(
    error: ValidationError, arguments: Mapping[str, Any], *, skip: Callable[[Any], bool] | None = None
) -> list[Fault]:
    """pydantic's errors in our words, one a path: a union reports each of its members."""
    found: dict[str, Fault] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path, values = _walk(arguments, item["loc"])
        code = _CODES.get(item["type"], "type" if item["type"].endswith("_type") else "value")
        if skip and may_pass(values, code, skip):
            continue
        message = _MESSAGES.get(item["type"], item["msg"])
        if path in found:
            message = f"{found[path]['message']}; or: {message}"[:500]
            code = found[path]["code"]
        found[path] = Fault(path=path, code=code, message=message)
    return list(found.values())


def may_pass(values: list[Any], code: str, skip: Callable[[Any], bool]) -> bool:
    """Whether a fault of a value may be gone once what is skipped is known: it is in a skipped text, or is
    about what a container with one in it holds (a list where a text should be stays wrong)."""
    if code in ("missing", "unknown"):
        return False
    if any(isinstance(value, str) and skip(value) for value in values):
        return True
    return bool(values) and code == "value" and skip(values[-1])


def _walk(arguments: Any, location: tuple[int | str, ...]) -> tuple[str, list[Any]]:
    """The part of a pydantic location that exists in the arguments (it also names union members), and
    the values on the way, the arguments themselves excepted."""
    path: list[str] = []
    values: list[Any] = []
    value = arguments
    for number, part in enumerate(location):
        if _holds(value, part):
            value = value[part]
        elif number == len(location) - 1 and isinstance(value, Mapping):  # the missing one
            path.append(str(part))
            break
        else:
            continue
        path.append(str(part))
        values.append(value)
    return ".".join(path), values


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)
