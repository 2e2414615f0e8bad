"""A request's id, address and user in every line that is logged while it is served."""

from typing import Any

import structlog
from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware
from python_ipware.modern.defaults import DEFAULT_PRECEDENCE

#: Headers in which proxies name their client.
_FORWARDED = frozenset(DEFAULT_PRECEDENCE) - {"REMOTE_ADDR"}


class LoggedRequests(RequestMiddleware):
    """django-structlog's; a client that no proxy speaks for is not searched for in a dozen headers."""

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> Any:
        if _FORWARDED.isdisjoint(request.META):
            structlog.contextvars.bind_contextvars(ip=request.META.get("REMOTE_ADDR"))
        else:
            super().bind_ip(request)
