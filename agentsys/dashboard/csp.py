"""The content security policy, and that of the admin's own pages.

Unfold's Alpine evaluates expressions and sets inline styles.  What that needs is allowed where the
admin's pages are, and nowhere else: an unknown address below the same path stays strict.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from csp.constants import HEADER
from csp.middleware import CheckableLazyObject, CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Handler = Callable[[HttpRequest], Any]
#: A page, or a form with its faults; other answers are plain error pages or none.
ITS_OWN_PAGES = (200, 422)


class PolicyMiddleware(CSPMiddleware):
    """django-csp's, but the policy of an answer that asks for nothing of its own is built once, not each time."""

    def __init__(self, get_response: Handler) -> None:
        super().__init__(get_response)
        self._plain = build_policy()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if hasattr(request, "_csp_nonce") or any(name.startswith("_csp") for name in vars(response)):
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, self._plain)
        request.csp_nonce = CheckableLazyObject(self._csp_nonce_post_response)  # type: ignore[attr-defined]
        return response


@sync_and_async_middleware
def admin_policy(get_response: Handler) -> Handler:
    """Middleware that relaxes the policy of the admin's pages.  Must come after django-csp's.

    Of both kinds: one that is only synchronous would send every request through a thread.
    """
    if iscoroutinefunction(get_response):
        asked = cast(Callable[[HttpRequest], Awaitable[HttpResponseBase]], get_response)

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            return relaxed(request, await asked(request))

        return answer_later
    return lambda request: relaxed(request, get_response(request))


def relaxed(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """``response``, marked for django-csp when it is a page of the admin."""
    match = request.resolver_match
    if match is not None and "admin" in match.app_names and response.status_code in ITS_OWN_PAGES:
        response._csp_replace = settings.ADMIN_CONTENT_SECURITY_POLICY  # type: ignore[attr-defined]
    return response
