"""The OpenAPI document and its Swagger UI."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.utils import extend_schema, inline_serializer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; decide by this one."},
        "detail": {"type": "string", "description": "For people."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "code", "message"],
                "properties": {name: {"type": "string"} for name in ("path", "code", "message")},
            },
        },
    },
}
_REFUSED = {
    "description": "Refused",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class BearerToken(OpenApiAuthenticationExtension):
    target_class = "agentsys.api.auth.WorkspaceJWTAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return build_bearer_security_scheme_object("Authorization", "Bearer", "JWT")


def pages_of(row: type[serializers.BaseSerializer[Any]]) -> Any:
    """The shape of a page that no pagination class makes."""
    name = row.__name__.removesuffix("Out")
    fields: dict[str, Any] = {link: serializers.URLField(allow_null=True) for link in ("next", "previous")}
    return inline_serializer(f"{name}Page", {**fields, "results": row(many=True)})


def without_slash_twins(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Each address is documented once; the one with a slash at its end is the same."""
    return [endpoint for endpoint in endpoints if not endpoint[0].endswith("/")]


def with_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Every operation can be refused, always in the same shape."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"].setdefault("default", _REFUSED)
    return result


class MadeOnce(SchemaGenerator):
    """The document says nothing that depends on its reader, and takes a while to make."""

    _made: dict[str, Any] | None = None

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        if MadeOnce._made is None:
            MadeOnce._made = super().get_schema(request=request, public=public)
        return MadeOnce._made


class Schema(SpectacularAPIView):
    """The OpenAPI document; public."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    generator_class = MadeOnce

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """In one language only."""
        found: Response = self._get_schema_response(request)
        return found

    def _get_version_parameter(self, request: Request) -> None:
        """Whatever ``?version=`` says: it would end up in a header."""


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI from our own files: works under the strict Content-Security-Policy, asks no other host."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    template_name = "api/docs.html"
