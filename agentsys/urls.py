"""The composition root of the web process."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/", include("agentsys.api.urls")),
    path("", include("agentsys.observability.urls")),
]

handler400 = "agentsys.api.problems.bad_request"
handler403 = "agentsys.api.problems.permission_denied"
handler404 = "agentsys.api.problems.page_not_found"
handler500 = "agentsys.api.problems.server_error"
