"""Lists in pages that stay right while rows come and go: ``{next, previous, results}``.

A cursor names the row where a page ended, by the values it is ordered by, which together are unique
and never change.  So a page costs the same however far down it is.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from agentsys.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Cursor:
    """Rows beyond ``values``: after them, or before them when ``back``."""

    back: bool
    values: tuple[Any, ...]

    def encode(self) -> str:
        packed = json.dumps([int(self.back), *map(str, self.values)])
        return urlsafe_b64encode(packed.encode()).decode().rstrip("=")


class Keyset(BasePagination):
    """``?limit=`` rows from ``?cursor=`` on.  All of ``ordering`` goes one way and is unique together."""

    ordering: ClassVar[tuple[str, ...]]
    limit: ClassVar[int] = 50
    max_limit: ClassVar[int] = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        limit = whole_number(request, "limit", default=self.limit, least=1, most=self.max_limit)
        cursor = self._cursor(request, queryset.model)
        back = cursor is not None and cursor.back
        found = queryset.order_by(*(_reversed(name) if back else name for name in self.ordering))
        rows = list((found.filter(self._beyond(cursor)) if cursor else found)[: limit + 1])
        more = len(rows) > limit
        page = rows[:limit][::-1] if back else rows[:limit]
        self._address = request.build_absolute_uri()
        self._next = self._link(page[-1:], back=False) if (more or back) else None
        self._previous = self._link(page[:1], back=True) if (more if back else cursor) else None
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next, "previous": self._previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return page_schema(schema)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            _parameter("cursor", {"type": "string"}, "From a next or previous link."),
            _parameter("limit", {"type": "integer", "minimum": 1, "maximum": self.max_limit}, "Rows a page."),
        ]

    def _link(self, ends: list[Any], *, back: bool) -> str | None:
        if not ends:
            return None
        values = tuple(getattr(ends[0], name.lstrip("-")) for name in self.ordering)
        return replace_query_param(self._address, "cursor", Cursor(back, values).encode())

    def _beyond(self, cursor: Cursor) -> Q:
        """(a, b) beyond (x, y), written so that the index on a bounds the search."""
        names = [name.lstrip("-") for name in self.ordering]
        word = "lt" if self.ordering[0].startswith("-") != cursor.back else "gt"
        beyond, same = Q(), Q()
        for name, value in zip(names, cursor.values, strict=True):
            beyond |= same & Q(**{f"{name}__{word}": value})
            same &= Q(**{name: value})
        return Q(**{f"{names[0]}__{word}e": cursor.values[0]}) & beyond

    def _cursor(self, request: Request, model: type[Model]) -> Cursor | None:
        packed = request.query_params.get("cursor")
        if not packed:
            return None
        fields = [model._meta.get_field(name.lstrip("-")) for name in self.ordering]
        try:
            back, *texts = json.loads(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
            pairs = zip(fields, map(str, texts), strict=True)
            values = tuple(field.to_python(text) for field, text in pairs)  # type: ignore[union-attr]
        except (ValueError, TypeError, ValidationError, binascii.Error, RecursionError):
            raise invalid("cursor", "Not a cursor; take it from a next or previous link.") from None
        if any(value is None or "\x00" in str(value) for value in values):
            raise invalid("cursor", "Not a cursor; take it from a next or previous link.")
        return Cursor(bool(back), values)


class NewestFirst(Keyset):
    """For rows whose ids sort by time."""

    ordering = ("-id",)


def whole_number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A number from the query string.

    Raises:
        InvalidInput: it is no number, or out of its bounds.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise invalid(name, f"Must be a whole number from {least} to {most}.")
    return int(text)


def invalid(path: str, message: str) -> InvalidInput:
    """One fault of a query string."""
    return InvalidInput(f"{path}: {message}", errors=[{"path": path, "code": "bad_value", "message": message}])


def page_schema(rows: dict[str, Any]) -> dict[str, Any]:
    """The shape of a page, for the OpenAPI document."""
    link = {"type": "string", "nullable": True, "format": "uri"}
    return {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {"next": link, "previous": link, "results": rows},
    }


def _reversed(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
