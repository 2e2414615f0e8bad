"""The one web entry point; ASGI because event streams stay open.

What would fail at the first request fails here: a broken module of tools, a broken address table.
"""

import os

from asgiref.sync import sync_to_async
from django import setup
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from agentsys.api.bodies import LimitedBodies
from agentsys.tools import registry


class Handler(ASGIHandler):
    """Middleware and views in one thread a request.

    All of ours are synchronous.  Django's own handler would carry the request to that thread and back
    twice for each of the middlewares, which took more time than all of their work.
    """

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsys.settings")
setup(set_prefix=False)
application = LimitedBodies(Handler(), max_bytes=settings.MAX_BODY_BYTES)
registry.load()
get_resolver().check()
