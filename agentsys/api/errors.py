"""What a view raises, as a problem: ours, DRF's and Django's alike."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from agentsys.api.problems import CONTENT_TYPE, of_error, problem
from agentsys.core.errors import AgentSysError, Forbidden, InvalidInput, NotFound

logger = logging.getLogger(__name__)

#: DRF's word for a fault -> ours, the same as a plan's faults have.
_FAULT_CODES = {
    "required": "missing",
    "null": "type",
    "invalid": "type",
    "not_a_dict": "type",
    "not_a_list": "type",
    "invalid_choice": "bad_value",
    "min_value": "bad_value",
    "max_value": "bad_value",
    "min_length": "bad_value",
    "max_length": "too_long",
    "blank": "missing",
}
#: DRF's word for a refusal -> ours.
_CODES = {"permission_denied": "forbidden", "method_not_allowed": "method_not_allowed", "throttled": "throttled"}
Fault = dict[str, str]


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response | None:  # noqa: ARG001 DRF passes it
    """DRF's ``EXCEPTION_HANDLER``.  None means "a bug": Django logs the traceback and answers 500."""
    if isinstance(error, OperationalError | InterfaceError):
        return _unavailable(error)
    if isinstance(error, Http404):
        error = NotFound()
    elif isinstance(error, PermissionDenied):
        error = Forbidden()
    elif isinstance(error, exceptions.ValidationError):
        error = _invalid(error)
    if isinstance(error, AgentSysError):
        set_rollback()
        return _respond(of_error(error), headers=_retry_after(error.data.get("retry_after_s")))
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    return _respond(_of_drf(error), headers=_headers(error))


def faults_of(detail: Any, path: str = "") -> Iterator[Fault]:
    """DRF's nested messages as a flat list with paths such as ``limits.steps`` and ``tools[2]``."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from faults_of(inner, _join(path, name))
    elif isinstance(detail, list | tuple):
        for number, inner in enumerate(detail):
            leaf = isinstance(inner, exceptions.ErrorDetail)
            yield from faults_of(inner, path if leaf else f"{path}[{number}]")
    else:
        code = getattr(detail, "code", None) or "invalid"
        yield {"path": path, "code": _FAULT_CODES.get(code, code), "message": str(detail)}


def _join(path: str, name: Any) -> str:
    if name == "non_field_errors":
        return path
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else str(name)


def _invalid(error: exceptions.ValidationError) -> InvalidInput:
    faults = list(faults_of(error.detail))
    first = faults[0] if faults else {"path": "", "message": str(InvalidInput.__doc__)}
    where = f"{first['path']}: " if first["path"] else ""
    more = f" ({len(faults) - 1} more: see errors.)" if len(faults) > 1 else ""
    return InvalidInput(f"{where}{first['message']}{more}", errors=faults)


def _of_drf(error: exceptions.APIException) -> dict[str, Any]:
    code, detail = error.default_code, str(error.default_detail)
    if isinstance(error.detail, exceptions.ErrorDetail):
        code, detail = error.detail.code or code, str(error.detail)
    return problem(error.status_code, _CODES.get(code, code), detail)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    return headers | _retry_after(getattr(error, "wait", None))


def _retry_after(wait_s: float | None) -> dict[str, str]:
    return {"Retry-After": str(int(wait_s) + 1)} if wait_s is not None else {}


def _respond(body: dict[str, Any], *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=body["status"], headers=dict(headers or {}), content_type=CONTENT_TYPE)


def _unavailable(error: Exception) -> Response:
    """The database is away or all its connections are taken: not a bug, and worth another try."""
    logger.error("the database did not answer: %s", type(error).__name__, exc_info=error)
    set_rollback()
    detail = "The database does not answer at the moment; try again."
    return _respond(problem(503, "unavailable", detail), headers={"Retry-After": "5"})
