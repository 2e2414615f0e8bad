"""All admin classes.  Django finds this package by itself; importing a module registers its pages."""

from django.contrib import admin
from django.contrib.auth.models import Group
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from agentsys.dashboard import overview

from . import (
    accounts,
    agents,
    approvals,
    budgets,
    credentials,
    history,
    installation,
    lanes,
    mcp,
    model_calls,
    retention,
    runs,
    steps,
)

__all__ = [
    "accounts",
    "agents",
    "approvals",
    "budgets",
    "credentials",
    "history",
    "installation",
    "lanes",
    "mcp",
    "model_calls",
    "retention",
    "runs",
    "steps",
]

admin.site.extra_urls = overview.urls  # type: ignore[attr-defined]  # Unfold's hook

# Roles are memberships, and a token is a secret: neither has a page here.
for model in (Group, OutstandingToken, BlacklistedToken):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
