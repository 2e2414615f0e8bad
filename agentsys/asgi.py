"""The one web entry point; ASGI because event streams stay open."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsys.settings")
application = get_asgi_application()
