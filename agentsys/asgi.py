"""The one web entry point; ASGI because event streams stay open.

What would fail at the first request fails here: a broken module of tools, a broken address table.
"""

import os

from django import setup
from django.conf import settings
from django.urls import get_resolver

from agentsys.api.bodies import LimitedBodies
from agentsys.api.handler import Handler
from agentsys.tools import registry

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsys.settings")
setup(set_prefix=False)
application = LimitedBodies(Handler(), max_bytes=settings.MAX_BODY_BYTES)
registry.load()
get_resolver().check()
