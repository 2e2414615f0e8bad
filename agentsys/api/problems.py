"""Every refusal in one shape: ``application/problem+json`` (RFC 9457).

``{type, title, status, code, detail, errors?}``; ``code`` is the stable one, ``errors`` lists
``{path, code, message}`` for each fault of a body.  Nothing here needs DRF.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from agentsys.core.errors import AgentSysError, Forbidden, NotFound, PayloadTooLarge

CONTENT_TYPE = "application/problem+json"


def of_error(error: AgentSysError) -> dict[str, Any]:
    """The problem that one of our errors is."""
    return problem(error.http_status, error.code, error.message, errors=error.data.get("errors"))


def problem(
    status: int, code: str, detail: str, *, errors: Iterable[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The body of a refusal."""
    body: dict[str, Any] = {
        "type": f"urn:agentsys:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = list(errors)
    return body


# --- What goes wrong outside of a view: Django's handler400 and so on (agentsys.urls) ---------
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A request that Django refused before any view: a foreign Host header, a broken upload."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        return _plain(of_error(PayloadTooLarge()))
    return _plain(problem(400, "bad_request", "The request is not valid HTTP for this host."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return _plain(of_error(Forbidden()))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return _plain(of_error(NotFound()))


def server_error(request: HttpRequest) -> HttpResponse:
    """A bug: the log has the traceback, the answer has none of it."""
    if not _is_api(request):
        return defaults.server_error(request)
    return _plain(of_error(AgentSysError("Something went wrong here; the log has the details.")))


def _is_api(request: HttpRequest) -> bool:
    return f"{request.path}/".startswith("/api/")


def _plain(body: dict[str, Any]) -> JsonResponse:
    return JsonResponse(body, status=body["status"], content_type=CONTENT_TYPE)
