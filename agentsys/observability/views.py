"""The three doors for machines, at the root of the web process."""

import hmac

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import REGISTRY

from . import health
from .collectors import EngineCollector

#: Here and not in the app's ready(): only the web process has views.  Flower sets Django up too, serves
#: this registry at an address of its own and may not query from its event loop.
REGISTRY.register(EngineCollector())


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers.  Restart it when this fails; nothing else is asked."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when a step could run, else 503; the body says what is missing."""
    found = health.readiness()
    return JsonResponse(found.as_dict(), status=200 if found.ready else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' text; asks for ``Authorization: Bearer …`` where AGENTSYS_METRICS_TOKEN is set."""
    wanted = f"Bearer {settings.METRICS_TOKEN}".encode()
    given = request.headers.get("Authorization", "").encode()
    if settings.METRICS_TOKEN and not hmac.compare_digest(wanted, given):
        return HttpResponse("a bearer token is needed\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    answer: HttpResponse = ExportToDjangoView(request)
    return answer
