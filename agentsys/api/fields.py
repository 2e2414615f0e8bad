"""Serializers that take what they say they take, and nothing else."""

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from operator import attrgetter
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError


class Text(serializers.CharField):
    """A text; a number is none."""

    default_error_messages = {"invalid": "Must be a text."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Slug(serializers.SlugField):
    """A slug; a number is none."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise ValidationError("Must be a text.", "type")
        return super().to_internal_value(data)


class Boolean(serializers.BooleanField):
    """true or false; no word or number that could mean one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise ValidationError("Must be true or false.", "type")
        return data


class Integer(serializers.IntegerField):
    """A whole number; no text of one, and no truth value."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise ValidationError("Must be a whole number.", "type")
        return data


class Number(serializers.FloatField):
    """A number; no text of one, and no truth value."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise ValidationError("Must be a number.", "type")
        try:
            return float(data)
        except OverflowError:
            raise ValidationError("Too large.", "bad_value") from None


class Object(serializers.DictField):
    """A JSON object."""

    default_error_messages = {"not_a_dict": "Must be an object."}


class Json(serializers.JSONField):
    """Anything that JSON has.  The body was JSON already, so nobody tries whether it can be written as such."""

    def to_internal_value(self, data: Any) -> Any:
        return data


class Body(serializers.Serializer[Any]):
    """A body from outside: unknown names are faults, and all faults are told together."""

    default_error_messages = {"invalid": "Must be an object.", "null": "No data provided"}

    def to_internal_value(self, data: Any) -> Any:
        unknown = self._unknown(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            if not isinstance(error.detail, dict):
                raise
            raise ValidationError({**error.detail, **unknown}) from None
        if unknown:
            raise ValidationError(unknown)
        return value

    def _unknown(self, data: Mapping[str, Any]) -> dict[str, list[ErrorDetail]]:
        names = [name for name in data if name not in self.fields or self.fields[name].read_only]
        if not names:
            return {}
        writable = [name for name, field in self.fields.items() if not field.read_only]
        message = f"There is no field of this name; there are {', '.join(writable)}."
        return {name: [ErrorDetail(message, "unknown_field")] for name in names}


class Row(serializers.Serializer[Any]):
    """A row as it is shown: each field a value of the row, or of what the row refers to by dots.

    DRF asks for each value whether it is a method, a relation, missing with a default…; of a stored row, which has
    them all, that took more time than the values.
    """

    @cached_property
    def _columns(self) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
        fields = self._readable_fields
        return [(str(field.field_name), _reader(field.source), field.to_representation) for field in fields]

    def to_representation(self, instance: Any) -> dict[str, Any]:
        pairs = ((name, read(instance), show) for name, read, show in self._columns)
        return {name: None if value is None else show(value) for name, value, show in pairs}


def _reader(source: str | None) -> Callable[[Any], Any]:
    return (lambda row: row) if source in (None, "*") else attrgetter(source)


@cache
def _one(kind: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The serializer that all requests share: checking and showing leave nothing behind in it, and to make
    one anew (a copy of each of its fields) costs more than either."""
    return kind()


def checked(kind: type[Body], data: Any) -> dict[str, Any]:
    """The body's values, as the fields make them.

    Raises:
        ValidationError: with every fault.
    """
    return dict(_one(kind).run_validation(data))


def shown(kind: type[serializers.Serializer[Any]], row: Any) -> dict[str, Any]:
    """A row as the API shows it."""
    return dict(_one(kind).to_representation(row))
