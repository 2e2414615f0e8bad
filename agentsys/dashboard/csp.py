"""The content security policy of the admin's own pages.

Unfold's Alpine evaluates expressions and sets inline styles.  What that needs is allowed where the
admin's pages are, and nowhere else: an unknown address below the same path stays strict.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

#: A page, or a form with its faults; other answers are plain error pages or none.
_ITS_OWN_PAGES = (200, 422)


class AdminPolicyMiddleware:
    """Relaxes the policy of responses made by the admin.  Must come after django-csp's middleware."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        match = request.resolver_match
        if match is not None and "admin" in match.app_names and response.status_code in _ITS_OWN_PAGES:
            response._csp_replace = settings.ADMIN_CONTENT_SECURITY_POLICY  # type: ignore[attr-defined]
        return response
