"""Arguments against a JSON Schema that came from outside, in the words of the registry's own faults."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema.exceptions import ValidationError

from agentsys.core import schemas
from agentsys.tools.arguments import Fault, may_pass

MAX_FAULTS = 100


@dataclass(frozen=True, slots=True)
class Matching:
    """How to check a call by a schema alone; the function gets its arguments as one object."""

    input_schema: dict[str, Any]
    context: str = "ctx"

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """
        Raises:
            ValueError: they do not fit; ``faults`` says how.
        """
        if self.faults(arguments):
            raise ValueError
        return {"arguments": dict(arguments)}

    def faults(self, arguments: Any, *, skip: Callable[[Any], bool] | None = None) -> list[Fault]:
        """See ``arguments.faults``."""
        if not isinstance(arguments, Mapping):
            return [Fault(path="", code="type", message="Arguments must be an object.")]
        try:
            found = schemas.mismatches(arguments, self.input_schema, most=MAX_FAULTS, work=schemas.HURRIED_WORK)
        except schemas.Unusable as error:
            return [Fault(path="", code="value", message=f"The arguments cannot be checked. {error}")]
        told = {fault["path"]: fault for mismatch in found for fault in _told(mismatch, arguments, skip)}
        return list(told.values())


def _told(error: ValidationError, arguments: Any, skip: Callable[[Any], bool] | None) -> Iterator[Fault]:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required" and isinstance(error.instance, Mapping):
        required: Any = error.validator_value
        missing = [name for name in required if name not in error.instance]
        for name in missing:
            yield Fault(path=".".join([*path, name]), code="missing", message="This argument is required")
        return
    code = {"additionalProperties": "unknown", "type": "type"}.get(str(error.validator), "value")
    if code == "unknown" or not (skip and may_pass(_values(error, arguments), code, skip)):
        yield Fault(path=".".join(path), code=code, message=error.message[:500])


def _values(error: ValidationError, arguments: Any) -> list[Any]:
    """The values on the way to the one that does not fit, the arguments themselves excepted."""
    values, value = [], arguments
    for part in error.absolute_path:
        value = value[part]
        values.append(value)
    return values
