"""The admin's index: the overview, and its moving part for the page to ask for again."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from agentsys.dashboard.pages import overview


def index_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's ``DASHBOARD_CALLBACK``."""
    return {**context, "title": "Overview", **overview.context(request)}


def moving_view(request: HttpRequest) -> HttpResponse:
    """The overview as a fragment."""
    return TemplateResponse(request, "dashboard/overview.html", overview.context(request))


def urls() -> list[URLPattern]:
    """What the admin's site has beside its models' pages."""
    return [path("overview/", admin.site.admin_view(moving_view), name="overview")]
