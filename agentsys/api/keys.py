"""The header Idempotency-Key, which every POST that makes something reads."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from agentsys.api.pages import invalid

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body give what they have made again, with Idempotent-Replayed: true.",
)


def idempotency_key(request: Request) -> str:
    """The header, or none.

    Raises:
        InvalidInput: it is there and empty: whoever sends that believes to be safe, and would not be.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not key.strip():
        raise invalid("Idempotency-Key", "It is empty; leave the header out, or send a key.")
    return key or ""


def replay_headers(*, replayed: bool) -> dict[str, str]:
    """What tells an answer that was given before."""
    return {"Idempotent-Replayed": "true"} if replayed else {}
