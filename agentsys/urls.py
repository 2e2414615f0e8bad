"""The composition root of the web process."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("agentsys.api.urls")),
    path("", include("agentsys.observability.urls")),
]

handler400 = "agentsys.api.problems.bad_request"
handler403 = "agentsys.api.problems.permission_denied"
handler404 = "agentsys.api.problems.page_not_found"
handler500 = "agentsys.api.problems.server_error"
