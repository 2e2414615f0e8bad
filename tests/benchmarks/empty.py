"""What a submission is measured against: an empty DRF view, with Django's own ASGI handler and nothing around it.

No middleware, no log-in, no database.  Served by the same server in the same way:
``granian --interface asginl tests.benchmarks.empty:application``.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

settings.configure(
    SECRET_KEY="only-for-benchmarks-0123456789-0123456789",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=[],
    LOGGING_CONFIG=None,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup(set_prefix=False)

from rest_framework.request import Request  # noqa: E402  needs settings
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Empty(APIView):
    def post(self, request: Request) -> Response:
        return Response({})


urlpatterns = [path("empty", Empty.as_view())]
application = get_asgi_application()
