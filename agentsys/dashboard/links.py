"""Addresses of pages.  Only our own paths, and Flower's as the operator set it."""

from urllib.parse import quote, urlsplit
from uuid import UUID

from django.conf import settings
from django.urls import reverse


def to_run(run_id: UUID) -> str:
    return reverse("admin:runs_run_change", args=[run_id])


def to_run_part(run_id: UUID, name: str) -> str:
    """What a button of the run's page leads to (``pause``)."""
    return reverse(f"admin:runs_run_{name}", args=[run_id])


def to_step(step_id: int) -> str:
    return reverse("admin:runs_step_change", args=[step_id])


def to_file(file_id: int) -> str:
    return reverse("admin:runs_runfile_change", args=[file_id])


def to_approval(approval_id: UUID) -> str:
    return reverse("admin:runs_approval_change", args=[approval_id])


def to_inbox() -> str:
    """What waits for a person's decision."""
    return reverse("admin:runs_approval_inbox")


def listed(name: str, **filters: object) -> str:
    """The list ``name`` (``runs_event``) with these filters."""
    query = "&".join(f"{key}={quote(str(value))}" for key, value in filters.items())
    return reverse(f"admin:{name}_changelist") + (f"?{query}" if query else "")


def to_flower() -> str:
    """Flower's address; empty when none is set or it is no web address."""
    url: str = settings.FLOWER_URL
    return url.rstrip("/") if urlsplit(url).scheme in ("http", "https") else ""


def to_task(attempt_id: UUID) -> str:
    """The attempt's task in Flower; empty without Flower."""
    flower = to_flower()
    return f"{flower}/task/{attempt_id}" if flower else ""
